package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func (c *command) credentials() *cobra.Command {
	credentials := &cobra.Command{
		Use: "credentials", Short: "The credentials of an agent", Args: cobra.NoArgs, RunE: help,
		Long: "credentials lists, makes, rotates and revokes the credentials of an agent of a running\nserver, by its API.\n\n" + sessionHelp,
	}
	credentials.AddCommand(c.listCredentials(), c.makeCredential(), c.rotateCredential(), c.revokeCredential())
	return credentials
}

// credentialAnswer is a credential as the API shows it, with its secret where it is new.
type credentialAnswer struct {
	ID         string     `json:"id"`
	Label      string     `json:"label"`
	Status     string     `json:"status"`
	ClientID   string     `json:"clientId"`
	Secret     string     `json:"clientSecret"`
	CreatedAt  time.Time  `json:"createdAt"`
	ExpiresAt  *time.Time `json:"expiresAt"`
	LastUsedAt *time.Time `json:"lastUsedAt"`
}

// show prints a new credential.
func (a *credentialAnswer) show(out *printer) {
	out.line("credential\t%s", a.ID)
	out.line("expires\t%s", maybeMoment(a.ExpiresAt))
	out.line("client id\t%s", a.ClientID)
	out.line("client secret\t%s", a.Secret)
}

func (c *command) listCredentials() *cobra.Command {
	cmd, _ := c.remoteCommand(&cobra.Command{
		Use: "list AGENT", Short: "List an agent's credentials", Args: cobra.ExactArgs(1),
		Long: "list prints the credentials of an agent, newest first, never with a secret. With --json each\nis a line.",
	}, "agents:read", func(ctx context.Context, s *session, cmd *cobra.Command, args []string) error {
		id, err := s.id(ctx, args[0])
		if err != nil {
			return err
		}
		return s.list(ctx, cmd.OutOrStdout(), "/agents/"+id+"/credentials", url.Values{}, 0, "ID\tLABEL\tSTATUS\tCREATED\tEXPIRES\tLAST USED", func(text json.RawMessage) (string, error) {
			a, err := decoded[credentialAnswer](text)
			if a.Label == "" {
				a.Label = "-"
			}
			return strings.Join([]string{a.ID, a.Label, a.Status, moment(a.CreatedAt), maybeMoment(a.ExpiresAt), maybeMoment(a.LastUsedAt)}, "\t"), err
		})
	})
	return cmd
}

// newCredential are the flags of a credential that is to be made.
type newCredential struct{ label, expires string }

func (n *newCredential) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.label, "label", "", "a name for it, for people")
	cmd.Flags().StringVar(&n.expires, "expires-at", "", "when it ends, such as 2027-01-02T03:04:05Z")
}

func (n *newCredential) object() (map[string]any, error) {
	o := map[string]any{}
	if n.label != "" {
		o["label"] = n.label
	}
	if n.expires != "" {
		if _, err := time.Parse(time.RFC3339, n.expires); err != nil {
			return nil, errors.New("--expires-at: give a time such as 2027-01-02T03:04:05Z")
		}
		o["expiresAt"] = n.expires
	}
	return o, nil
}

// issue makes a command whose answer is a new credential.
func (c *command) issue(cmd *cobra.Command, path func(agent string, args []string) string, object func(o map[string]any) error) *cobra.Command {
	n := &newCredential{}
	cmd, _ = c.remoteCommand(cmd, "agents:read credentials:write", func(ctx context.Context, s *session, cmd *cobra.Command, args []string) error {
		o, err := n.object()
		if err == nil {
			err = object(o)
		}
		if err != nil {
			return err
		}
		id, err := s.id(ctx, args[0])
		if err != nil {
			return err
		}
		text, err := s.ask(ctx, http.MethodPost, path("/agents/"+id+"/credentials", args[1:]), nil, o, http.StatusCreated)
		if err != nil || s.flags.json {
			return errors.Join(err, printLines(cmd.OutOrStdout(), nonEmpty(text)))
		}
		a, err := decoded[credentialAnswer](text)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
		out := &printer{w: table}
		a.show(out)
		return errors.Join(out.err, table.Flush())
	})
	n.add(cmd)
	return cmd
}

func nonEmpty(text json.RawMessage) []json.RawMessage {
	if len(text) == 0 {
		return nil
	}
	return []json.RawMessage{text}
}

func (c *command) makeCredential() *cobra.Command {
	return c.issue(&cobra.Command{
		Use: "create AGENT", Short: "Make one more credential", Args: cobra.ExactArgs(1),
		Long:    "create makes a further credential and prints it with its secret, which is shown this once.",
		Example: "  agentidp credentials create invoice-reader-001@sentryagent.ai --label blue",
	}, func(path string, _ []string) string { return path }, func(map[string]any) error { return nil })
}

func (c *command) rotateCredential() *cobra.Command {
	var overlap time.Duration
	cmd := c.issue(&cobra.Command{
		Use: "rotate AGENT CREDENTIAL", Short: "Make a successor of a credential", Args: cobra.ExactArgs(2),
		Long: "rotate makes a successor of a credential and prints it with its secret, which is shown this\nonce. The old one lives on for --overlap, so that the agent can change over.",
	}, func(path string, args []string) string { return path + "/" + url.PathEscape(args[0]) + "/rotate" }, func(o map[string]any) error {
		if overlap%time.Second != 0 {
			return errors.New("--overlap: give whole seconds")
		}
		o["overlapSeconds"] = int64(overlap / time.Second)
		return nil
	})
	cmd.Flags().DurationVar(&overlap, "overlap", 24*time.Hour, "how long the old one lives on")
	return cmd
}

func (c *command) revokeCredential() *cobra.Command {
	cmd, _ := c.remoteCommand(&cobra.Command{
		Use: "revoke AGENT CREDENTIAL", Short: "End a credential", Args: cobra.ExactArgs(2),
		Long: "revoke ends a credential and the tokens that were obtained with it. Revoking it again\nchanges nothing.",
	}, "agents:read credentials:write", func(ctx context.Context, s *session, _ *cobra.Command, args []string) error {
		id, err := s.id(ctx, args[0])
		if err != nil {
			return err
		}
		_, err = s.ask(ctx, http.MethodDelete, "/agents/"+id+"/credentials/"+url.PathEscape(args[1]), nil, nil, http.StatusNoContent)
		return err
	})
	return cmd
}
