package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

func configCommand() *cobra.Command {
	var example bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print every setting, its default and its meaning",
		Long: `config prints every setting, its default and its meaning. A setting is given by a
flag (--token-ttl 15m), in the environment (TOKEN_TTL=15m) or in a .env file; the
first of these that names it wins. Secrets may stand in a file: JWT_SECRET_FILE.`,
		Example: "  agentidp config\n  agentidp config --example > .env",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if example {
				return config.Example(cmd.OutOrStdout())
			}
			return config.Describe(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&example, "example", false, "print a .env file instead")
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Long: "version prints the release, or the commit that a build without a release was made from.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := &printer{w: cmd.OutOrStdout()}
			out.line("agentidp %s", version())
			return out.err
		},
	}
}

// healthTimeout bounds the question of the health command.
const healthTimeout = 5 * time.Second

func (c *command) health() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running server how it is",
		Long: `health asks a running server how it is, prints the answer, and exits with 0 where
it can serve and with 1 where it cannot or does not answer. It fits a container's
health check.`,
		Example: "  agentidp health\n  agentidp health --url https://idp.example.com",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if address == "" {
				cfg, err := c.config()
				if err != nil {
					return err
				}
				address = localURL(cfg)
			}
			return askHealth(cmd.Context(), address, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&address, "url", "", "the server's URL (default: of HOST and PORT)")
	return cmd
}

func localURL(cfg *config.Config) string {
	host := cfg.Host
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme := "http"
	if cfg.TLSCertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(cfg.Port))
}

func askHealth(ctx context.Context, address string, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+"/health", nil)
	if err != nil {
		return fmt.Errorf("--url: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if _, err := fmt.Fprintf(out, "%s\n", body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server is not healthy: %s", resp.Status)
	}
	return nil
}

// describe adds to a refusal what a person at a terminal needs to mend it.
func describe(err error) error {
	f := fault.As(err)
	if f == nil {
		return err
	}
	lines := []error{err}
	for _, field := range f.Fields {
		lines = append(lines, errors.New("  "+field.Message))
	}
	if f.Code == fault.CodeAgentExists {
		lines = append(lines, errors.New("  name another with --email"))
	}
	return errors.Join(lines...)
}
