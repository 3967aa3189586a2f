package main

import "github.com/spf13/cobra"

// audit holds the commands about the record.
func (c *command) audit() *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "Check, export and witness the record", Args: cobra.NoArgs, RunE: help,
	}
	cmd.AddCommand()
	return cmd
}
