package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

func (c *command) serve() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `serve runs the server until it is interrupted (Ctrl-C or SIGTERM), then answers the
requests under way and stops. A second interrupt ends it at once, and them with it.
One JSON line per request goes to standard output; where it listens, and what of the
configuration is not fit for production, to standard error.

On an embedded database without a single agent it makes the first admin agent and
prints its credential to standard error, this once.`,
		Example: `  agentidp serve
  agentidp serve --port 8080 --data-dir /var/lib/agentidp
  APP_ENV=production JWT_ISSUER=https://idp.example.com JWT_SECRET_FILE=/run/secrets/jwt agentidp serve`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withApp(cmd.Context(), cmd.OutOrStdout(), func(a *app.App, cfg *config.Config) error {
				l, err := a.Listen(cmd.Context())
				if err != nil {
					return err
				}
				err = announce(cmd.Context(), cmd.ErrOrStderr(), a, cfg, l)
				if cmd.Context().Err() != nil {
					return l.Close() // it was stopped before it began
				}
				if err != nil {
					return err
				}
				return a.Run(cmd.Context(), l, version())
			})
		},
	}
}

// announce says where the server is, what is not fit for production, and, on an
// empty database, how to call it.
func announce(ctx context.Context, w io.Writer, a *app.App, cfg *config.Config, l net.Listener) error {
	admin, made, err := a.BootstrapEmpty(ctx)
	if err != nil {
		return fmt.Errorf("making the first admin agent: %w", err)
	}
	issuer := a.Issuer(l)
	out := &printer{w: w}
	out.line("agentidp %s listens on %s", version(), l.Addr())
	out.line("issuer    %s", issuer)
	out.line("API docs  %s/api-docs", issuer)
	for _, warning := range cfg.Warnings() {
		out.line("not fit for production: %s", warning)
	}
	if made {
		out.line("the first admin agent, whose secret is shown this once:")
		out.client(admin)
	}
	return out.err
}

// printer keeps the first error of many prints.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// client prints what a client authenticates with, as JSON.
func (p *printer) client(issued credential.Issued) {
	body, err := json.Marshal(struct { //nolint:gosec // to show the secret once is what this is for
		ClientID     string `json:"clientId"`
		ClientSecret string `json:"clientSecret"`
	}{issued.AgentID.String(), issued.Secret.Value().Reveal()})
	if err != nil && p.err == nil {
		p.err = err
	}
	p.line("%s", body)
}
