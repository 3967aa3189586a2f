package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// agentFields are the flags that say what an agent is to be.
type agentFields struct {
	email, kind, version, owner, env, metadata string
	capabilities                               []string
	ttl                                        time.Duration
}

func (f *agentFields) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kind, "type", "", "the kind of agent")
	cmd.Flags().StringVar(&f.version, "agent-version", "", "its semantic version")
	cmd.Flags().StringSliceVar(&f.capabilities, "capability", nil, "what it may be given tokens for, resource:action; repeat it, or separate by commas")
	cmd.Flags().StringVar(&f.owner, "owner", "", "the developer or team that answers for it")
	cmd.Flags().StringVar(&f.env, "env", "", "its environment: "+environments)
	cmd.Flags().StringVar(&f.metadata, "metadata", "", "a JSON object")
	cmd.Flags().DurationVar(&f.ttl, "ttl", 0, "how long its tokens live; 0 is as the server has it")
	offer(cmd, "env", strings.Split(environments, ", ")...)
}

// object gives what the flags say, of those that were given.
func (f *agentFields) object(cmd *cobra.Command) (map[string]any, error) {
	o := map[string]any{}
	for flag, field := range map[string]struct {
		name  string
		value any
	}{
		"email": {"email", f.email}, "type": {"agentType", f.kind}, "agent-version": {"version", f.version}, "capability": {"capabilities", f.capabilities},
		"owner": {"owner", f.owner}, "env": {"deploymentEnv", f.env},
	} {
		if cmd.Flags().Changed(flag) {
			o[field.name] = field.value
		}
	}
	if cmd.Flags().Changed("metadata") {
		if !json.Valid([]byte(f.metadata)) {
			return nil, errors.New("--metadata: give a JSON object")
		}
		o["metadata"] = json.RawMessage(f.metadata)
	}
	switch {
	case !cmd.Flags().Changed("ttl"):
	case f.ttl%time.Second != 0:
		return nil, errors.New("--ttl: give whole seconds")
	case f.ttl == 0:
		o["tokenTtlSeconds"] = nil
	default:
		o["tokenTtlSeconds"] = int64(f.ttl / time.Second)
	}
	return o, nil
}

func (c *command) createAgent() *cobra.Command {
	fields := &agentFields{}
	cmd, _ := c.remoteCommand(&cobra.Command{
		Use: "create --email EMAIL …", Short: "Register an agent", Args: cobra.NoArgs,
		Long: "create registers an agent and prints it with its first credential. The secret is shown this\nonce. Give --with-scope for every management scope that is to be among its capabilities.",
		Example: `  agentidp agents create --email invoice-reader-001@sentryagent.ai --type invoice-reader \
    --agent-version v1.0.0 --capability invoices:read --owner finance --env production`,
	}, "agents:write", func(ctx context.Context, s *session, cmd *cobra.Command, _ []string) error {
		o, err := fields.object(cmd)
		if err != nil {
			return err
		}
		text, err := s.ask(ctx, http.MethodPost, "/agents", nil, o, http.StatusCreated)
		if err != nil {
			return err
		}
		return s.show(cmd.OutOrStdout(), text)
	})
	cmd.Flags().StringVar(&fields.email, "email", "", "its email, unique in the organization")
	fields.add(cmd)
	return cmd
}

func (c *command) updateAgent() *cobra.Command {
	fields := &agentFields{}
	var cmd *cobra.Command
	cmd = c.oneAgent(&cobra.Command{
		Use: "update AGENT", Short: "Change an agent", Args: cobra.ExactArgs(1),
		Long:    "update changes what the flags name and leaves the rest. --capability replaces all of them,\n--metadata is merged into what is there (RFC 7396).",
		Example: "  agentidp agents update invoice-reader-001@sentryagent.ai --agent-version v1.1.0 --ttl 15m",
	}, "agents:write", func(ctx context.Context, s *session, path string, _ []string) (json.RawMessage, error) {
		o, err := fields.object(cmd)
		if err != nil {
			return nil, err
		}
		if len(o) == 0 {
			return nil, errors.New("say what to change: see agentidp agents update --help")
		}
		return s.ask(ctx, http.MethodPatch, path, nil, o, http.StatusOK)
	})
	fields.add(cmd)
	return cmd
}
