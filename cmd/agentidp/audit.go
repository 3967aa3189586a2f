package main

import "github.com/spf13/cobra"

func (c *command) audit() *cobra.Command {
	audit := &cobra.Command{Use: "audit", Short: "The record, and who watches it", Args: cobra.NoArgs, RunE: help}
	audit.AddCommand(c.witness())
	return audit
}
