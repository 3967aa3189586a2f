package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

// quickstartLabel marks the admin credential that quickstart makes, and
// quickstartLifetime is how long it works.
const (
	quickstartLabel    = "quickstart"
	quickstartLifetime = 24 * time.Hour
)

func (c *command) quickstart() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "quickstart",
		Short: "See the whole story in one command, then keep serving",
		Long: `quickstart starts the server on embedded storage and walks through the main job as
any client would, over HTTP: it registers an agent, gets it a token, verifies that
against the published keys, suspends the agent and sees both the token and the next
request refused, and shows the record of it all. Then it prints commands to go on
with, and keeps serving. It can be run again on the same data.`,
		Example: "  agentidp quickstart\n  agentidp quickstart --port 8080 --data-dir /tmp/try",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withApp(cmd.Context(), cmd.ErrOrStderr(), func(a *app.App, cfg *config.Config) error {
				return runQuickstart(cmd, a, cfg, once)
			})
		},
	}
	cmd.Flags().BoolVar(&once, "exit", false, "stop after the story instead of serving on")
	cmd.PreRun = func(*cobra.Command, []string) {
		// One line per request would bury the story.
		if level := c.flags["LOG_LEVEL"]; *level == "" {
			*level = "error"
		}
	}
	return cmd
}

func runQuickstart(cmd *cobra.Command, a *app.App, cfg *config.Config, once bool) error {
	if cfg.TLSCertFile != "" {
		return errors.New("quickstart speaks plain HTTP with itself: unset TLS_CERT_FILE, or use serve")
	}
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	l, err := a.Listen(ctx)
	if err != nil {
		return err
	}
	admin, err := a.AdminFor(ctx, quickstartLabel, quickstartLifetime)
	if err != nil {
		return fmt.Errorf("making a credential for the admin agent %s: %w", app.AdminEmail, err)
	}
	served := make(chan error, 1)
	go func() { served <- a.Run(ctx, l, version()) }()
	out := &printer{w: cmd.OutOrStdout()}
	base := reachable(l)
	told := tell(ctx, out, &client{base: base, issuer: a.Issuer(l), http: &http.Client{Timeout: 10 * time.Second}}, admin, cfg)
	if told != nil || once {
		stop()
		return errors.Join(told, <-served)
	}
	nextCommands(out, a.Issuer(l), admin)
	return errors.Join(out.err, <-served)
}

// reachable is the listener's own address, whatever names lead to it.
func reachable(l net.Listener) string {
	host, port, _ := net.SplitHostPort(l.Addr().String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// nextCommands prints what to try now.
func nextCommands(out *printer, issuer string, admin credential.Issued) {
	out.line("")
	out.line("Go on yourself. This is the admin agent's credential; treat it as a password:")
	out.line("")
	out.line("  export IDP=%s", issuer)
	out.line("  export CLIENT_ID=%s", admin.AgentID)
	out.line("  export CLIENT_SECRET=%s", admin.Secret.Value().Reveal())
	out.line("")
	out.line("  # a token for the management API (needs jq)")
	out.line(`  TOKEN=$(curl -s -u "$CLIENT_ID:$CLIENT_SECRET" $IDP/oauth2/token \`)
	out.line(`    -d grant_type=client_credentials -d 'scope=agents:read agents:write audit:read' | jq -r .access_token)`)
	out.line("  # the registry, and the record")
	out.line(`  curl -s -H "Authorization: Bearer $TOKEN" $IDP/agents | jq`)
	out.line(`  curl -s -H "Authorization: Bearer $TOKEN" $IDP/audit/events | jq`)
	out.line("")
	out.line("API docs: %s/api-docs", issuer)
	out.line("Serving until you press Ctrl-C (process %d).", os.Getpid())
}
