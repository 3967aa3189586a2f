package main

import (
	"errors"

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
