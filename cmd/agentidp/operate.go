package main

import (
	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
)

func (c *command) migrate() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database to the newest schema",
		Long: `migrate makes what is missing of the database's schema. The embedded database is
migrated by serve itself; PostgreSQL is not: run migrate as the owner of the schema
before a new version serves. Where the server works as another role, name that in
DATABASE_ROLE: it gets the rights it needs, and none to change the record. Any number
of migrations may be started at once; one of them works.`,
		Example: "  agentidp migrate\n  DATABASE_ROLE=agentidp DATABASE_URL_FILE=/run/secrets/owner-url agentidp migrate",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.config()
			if err != nil {
				return err
			}
			if err := app.Migrate(cmd.Context(), cfg); err != nil {
				return err
			}
			out := &printer{w: cmd.OutOrStdout()}
			out.line("the database has the newest schema")
			return out.err
		},
	}
}

func (c *command) admin() *cobra.Command {
	admin := &cobra.Command{Use: "admin", Short: "Operator's work on the registry", Args: cobra.NoArgs, RunE: help}
	var email string
	bootstrap := &cobra.Command{
		Use:   "bootstrap",
		Short: "Make an admin agent and print its credential",
		Long: `bootstrap makes an agent in the operator's organization with every management
scope, and prints {"clientId":"…","clientSecret":"…"}. The secret is shown this once.
It works on the database itself, beside a running server or without one; who can do
that needs no other right. Where an admin agent's secret was lost, make another agent
under another email, and archive the old one.`,
		Example: "  agentidp admin bootstrap --email admin-002@example.com",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withApp(cmd.Context(), cmd.ErrOrStderr(), func(a *app.App, _ *config.Config) error {
				issued, err := a.Bootstrap(cmd.Context(), email)
				if err != nil {
					return describe(err)
				}
				out := &printer{w: cmd.OutOrStdout()}
				out.client(issued)
				return out.err
			})
		},
	}
	bootstrap.Flags().StringVar(&email, "email", app.AdminEmail, "the agent's email, unique in the organization")
	admin.AddCommand(bootstrap)
	return admin
}
