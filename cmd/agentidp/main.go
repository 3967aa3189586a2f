package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // who asks a second time does not want to wait
	err := rootCommand(os.Environ()).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "agentidp:", err)
		os.Exit(exitCode(err))
	}
}

// command is what every subcommand needs to find its settings.
type command struct {
	environ []string
	flags   map[string]*string
	dotEnv  string
}

func rootCommand(environ []string) *cobra.Command {
	c := &command{environ: environ, flags: map[string]*string{}}
	root := &cobra.Command{
		Use:   "agentidp",
		Short: "The identity provider for AI agents",
		Long: `agentidp gives every AI agent an identity of its own: credentials that rotate,
short-lived OAuth 2.0 tokens limited to the agent's capabilities, revocation that
bites at once, and a record of all of it.

New here? This starts a server on embedded storage, shows the whole story, and
keeps serving:

  agentidp quickstart

To run it for real:

  agentidp config                 every setting, its default and its meaning
  agentidp serve                  the server
  agentidp admin bootstrap        one more admin agent, to call the API with
  agentidp keys rotate            the next signing key, published before it signs
  agentidp audit verify           check the record, as anybody can
  agentidp doctor                 what is not fit for production

And every day, speaking to a running server:

  agentidp agents list            the registry; also create, suspend, import, …
  agentidp credentials rotate     the credentials of an agent
  agentidp token                  an access token
  agentidp completion bash        let the shell complete all of this`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          help,
	}
	root.PersistentFlags().StringVar(&c.dotEnv, "env-file", ".env", "file of settings; it need not exist")
	for _, s := range config.Settings() {
		for _, name := range s.Flags() {
			c.flags[name] = root.PersistentFlags().String(flagName(name), "", s.Meaning)
		}
	}
	root.AddCommand(c.serve(), c.quickstart(), c.migrate(), c.admin(), c.keys(), c.audit(), c.secrets(), c.backup(), c.doctor(), c.health(), c.agents(), c.credentials(), c.token(), configCommand(), versionCommand())
	return root
}

// help is what a command does that only holds others: a word it does not know is
// an error, and no word a question.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// flagName turns TOKEN_TTL into token-ttl.
func flagName(setting string) string { return strings.ReplaceAll(strings.ToLower(setting), "_", "-") }

// env gives a variable of the environment that is none of the settings.
func (c *command) env(name string) string {
	for _, pair := range c.environ {
		if value, found := strings.CutPrefix(pair, name+"="); found {
			return value
		}
	}
	return ""
}

// sources is where the settings of this call come from.
func (c *command) sources() config.Sources {
	given := map[string]string{}
	for name, value := range c.flags {
		given[name] = *value
	}
	return config.Sources{Flags: given, Environ: c.environ, DotEnv: c.dotEnv}
}

// config reads the settings of this call.
func (c *command) config() (*config.Config, error) { return config.Load(c.sources()) }

// withApp runs do on the opened database.
func (c *command) withApp(ctx context.Context, logs io.Writer, do func(a *app.App, cfg *config.Config) error) (err error) {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: cfg.LogLevel}))
	a, err := app.Open(ctx, cfg, logger, time.Now)
	if err != nil {
		return err
	}
	defer func() {
		if closed := a.Close(); err == nil && closed != nil {
			err = fmt.Errorf("closing the database: %w", closed)
		}
	}()
	return do(a, cfg)
}
