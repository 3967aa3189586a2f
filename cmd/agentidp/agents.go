package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func (c *command) agents() *cobra.Command {
	agents := &cobra.Command{
		Use: "agents", Short: "The agents of a server's registry", Args: cobra.NoArgs, RunE: help,
		Long: "agents lists, registers and changes the agents of a running server, by its API.\n\n" + sessionHelp,
	}
	agents.AddCommand(c.listAgents(), c.createAgent(), c.showAgent(), c.updateAgent(),
		c.moveAgent("suspend", "Stop an agent", "suspend stops an agent: its tokens are dead for good, and it gets no more of them until it is reactivated."),
		c.moveAgent("reactivate", "Let a suspended agent go on", "reactivate lets a suspended agent get tokens again; those from before stay dead."),
		c.moveAgent("revoke", "End an agent for good", "revoke ends an agent, its credentials and its tokens for good."),
		c.deleteAgent(), c.importAgents(), c.exportAgents())
	return agents
}

// agentAnswer is an agent as the API shows it.
type agentAnswer struct {
	ID            string            `json:"id"`
	Email         string            `json:"email"`
	AgentType     string            `json:"agentType"`
	Version       string            `json:"version"`
	Capabilities  []string          `json:"capabilities"`
	Owner         string            `json:"owner"`
	DeploymentEnv string            `json:"deploymentEnv"`
	Status        string            `json:"status"`
	CreatedAt     time.Time         `json:"createdAt"`
	UpdatedAt     time.Time         `json:"updatedAt"`
	LastAuthAt    *time.Time        `json:"lastAuthAt"`
	Metadata      json.RawMessage   `json:"metadata"`
	TTL           *int64            `json:"tokenTtlSeconds"`
	Credential    *credentialAnswer `json:"credential"`
}

// selection narrows a list of agents.
type selection struct {
	status, kind, owner, env, capability string
}

func (s *selection) add(cmd *cobra.Command, statuses ...string) {
	cmd.Flags().StringVar(&s.status, "status", "", "agents of this status: "+strings.Join(statuses, ", "))
	cmd.Flags().StringVar(&s.kind, "type", "", "agents of this type")
	cmd.Flags().StringVar(&s.owner, "owner", "", "agents of this owner")
	cmd.Flags().StringVar(&s.env, "env", "", "agents of this environment: "+environments)
	cmd.Flags().StringVar(&s.capability, "capability", "", "agents that have this capability")
	offer(cmd, "status", statuses...)
	offer(cmd, "env", strings.Split(environments, ", ")...)
}

const environments = "development, staging, production"

// offer lets a shell complete a flag's value.
func offer(cmd *cobra.Command, flag string, values ...string) {
	// It fails where there is no such flag, or two offers: then nothing is offered.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func (s *selection) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{"status": s.status, "agentType": s.kind, "owner": s.owner, "deploymentEnv": s.env, "capability": s.capability} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

func (c *command) listAgents() *cobra.Command {
	var which selection
	var most int
	cmd, _ := c.remoteCommand(&cobra.Command{
		Use: "list", Short: "List agents", Args: cobra.NoArgs,
		Long:    "list prints the agents of the organization, newest first. With --json each is a line.",
		Example: "  agentidp agents list --status suspended\n  agentidp agents list --owner finance --json | jq -r .email",
	}, "agents:read", func(ctx context.Context, s *session, cmd *cobra.Command, _ []string) error {
		return s.list(ctx, cmd.OutOrStdout(), "/agents", which.query(), most, "ID\tEMAIL\tTYPE\tVERSION\tOWNER\tENVIRONMENT\tSTATUS\tLAST TOKEN", func(text json.RawMessage) (string, error) {
			a, err := decoded[agentAnswer](text)
			return strings.Join([]string{a.ID, a.Email, a.AgentType, a.Version, a.Owner, a.DeploymentEnv, a.Status, maybeMoment(a.LastAuthAt)}, "\t"), err
		})
	})
	which.add(cmd, "active", "suspended", "revoked", "archived")
	cmd.Flags().IntVar(&most, "limit", 0, "no more than so many; 0 is all of them")
	return cmd
}

// list prints a list page by page: a table, or with --json a line for each item.
func (s *session) list(ctx context.Context, out io.Writer, path string, q url.Values, most int, header string, row func(json.RawMessage) (string, error)) error {
	const page = 200
	for shown := 0; ; {
		q.Set("limit", strconv.Itoa(page))
		if most > 0 {
			q.Set("limit", strconv.Itoa(min(page, most-shown)))
		}
		text, err := s.ask(ctx, http.MethodGet, path, q, nil, http.StatusOK)
		if err != nil {
			return err
		}
		l, err := decoded[listed[json.RawMessage]](text)
		if err != nil {
			return err
		}
		if s.flags.json {
			err = printLines(out, l.Items)
		} else {
			err = printTable(out, header, l.Items, row)
		}
		shown += len(l.Items)
		if err != nil || l.NextCursor == nil || most > 0 && shown >= most {
			return err
		}
		q.Set("cursor", *l.NextCursor)
		header = "" // once is enough
	}
}

func printLines(w io.Writer, items []json.RawMessage) error {
	out := &printer{w: w}
	for _, item := range items {
		out.line("%s", item)
	}
	return out.err
}

func printTable(w io.Writer, header string, items []json.RawMessage, row func(json.RawMessage) (string, error)) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	out := &printer{w: table}
	if header != "" {
		out.line("%s", header)
	}
	for _, item := range items {
		text, err := row(item)
		if err != nil {
			return err
		}
		out.line("%s", text)
	}
	return errors.Join(out.err, table.Flush())
}

func maybeMoment(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return moment(*t)
}

// show prints an agent, and its first credential where it has just been made.
func (s *session) show(w io.Writer, text json.RawMessage) error {
	if s.flags.json {
		return printLines(w, []json.RawMessage{text})
	}
	a, err := decoded[agentAnswer](text)
	if err != nil {
		return err
	}
	ttl := "-"
	if a.TTL != nil {
		ttl = (time.Duration(*a.TTL) * time.Second).String()
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	out := &printer{w: table}
	for _, line := range [][2]string{
		{"id", a.ID},
		{"email", a.Email},
		{"type", a.AgentType},
		{"version", a.Version},
		{"capabilities", strings.Join(a.Capabilities, " ")},
		{"owner", a.Owner},
		{"environment", a.DeploymentEnv},
		{"status", a.Status},
		{"created", moment(a.CreatedAt)},
		{"updated", moment(a.UpdatedAt)},
		{"last token", maybeMoment(a.LastAuthAt)},
		{"token lifetime", ttl},
		{"metadata", string(a.Metadata)},
	} {
		out.line("%s\t%s", line[0], line[1])
	}
	if a.Credential != nil {
		a.Credential.show(out)
	}
	return errors.Join(out.err, table.Flush())
}

// oneAgent makes a command about one agent, the first argument.
func (c *command) oneAgent(cmd *cobra.Command, scopes string, run func(ctx context.Context, s *session, path string, args []string) (json.RawMessage, error)) *cobra.Command {
	cmd, _ = c.remoteCommand(cmd, "agents:read "+scopes, func(ctx context.Context, s *session, cmd *cobra.Command, args []string) error {
		id, err := s.id(ctx, args[0])
		if err != nil {
			return err
		}
		text, err := run(ctx, s, "/agents/"+id, args[1:])
		if err != nil || len(text) == 0 {
			return err
		}
		return s.show(cmd.OutOrStdout(), text)
	})
	return cmd
}

func (c *command) showAgent() *cobra.Command {
	return c.oneAgent(&cobra.Command{
		Use: "show AGENT", Short: "Show an agent", Args: cobra.ExactArgs(1), Long: "show prints one agent.",
		Example: "  agentidp agents show invoice-reader-001@sentryagent.ai",
	}, "", func(ctx context.Context, s *session, path string, _ []string) (json.RawMessage, error) {
		return s.ask(ctx, http.MethodGet, path, nil, nil, http.StatusOK)
	})
}

func (c *command) moveAgent(verb, short, long string) *cobra.Command {
	var reason string
	cmd := c.oneAgent(&cobra.Command{
		Use: verb + " AGENT", Short: short, Args: cobra.ExactArgs(1), Long: long,
		Example: fmt.Sprintf("  agentidp agents %s invoice-reader-001@sentryagent.ai --reason 'ticket 42'", verb),
	}, "agents:write", func(ctx context.Context, s *session, path string, _ []string) (json.RawMessage, error) {
		return s.ask(ctx, http.MethodPost, path+"/"+verb, nil, map[string]any{"reason": reason}, http.StatusOK)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return cmd
}

func (c *command) deleteAgent() *cobra.Command {
	return c.oneAgent(&cobra.Command{
		Use: "delete AGENT", Short: "Archive an agent", Args: cobra.ExactArgs(1),
		Long: "delete takes an agent out of use for good: it is archived and kept for the audit, and its\ncredentials and tokens are dead. Archiving it again changes nothing.",
	}, "agents:write", func(ctx context.Context, s *session, path string, _ []string) (json.RawMessage, error) {
		return s.ask(ctx, http.MethodDelete, path, nil, nil, http.StatusNoContent)
	})
}
