package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
)

func (c *command) backup() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Copy the embedded database",
		Long: `backup copies the embedded database to a new file, beside a running server or
without one; run it as the user that the server runs as. The copy is one moment's, was
read through once, and is there whole or not at all; a file that is there already is
never replaced. Without the root secret it opens nothing: keep that, too. PostgreSQL has
its own tools. How to restore: docs/runbooks/embedded-backup.md, postgres-backup.md.`,
		Example: "  agentidp backup --to /var/backups/agentidp.db",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return errors.New("--to: say which file to make")
			}
			cfg, err := c.config()
			if err != nil {
				return err
			}
			began := time.Now()
			rootSecret, err := app.Backup(cmd.Context(), cfg, to)
			if err != nil {
				return err
			}
			info, err := os.Stat(to)
			if err != nil {
				return fmt.Errorf("looking at the copy: %w", err)
			}
			out := &printer{w: cmd.OutOrStdout()}
			out.line("the database is copied to %s: %d bytes in %s", to, info.Size(), time.Since(began).Round(time.Millisecond))
			if rootSecret == "" {
				rootSecret = "JWT_SECRET"
			}
			out.line("%s belongs to it: without that secret the copy opens no signing key", rootSecret)
			return out.err
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "file to make; it must not exist")
	return cmd
}
