package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

// ndjson is the media type of lines of JSON.
const ndjson = "application/x-ndjson"

func (c *command) exportAgents() *cobra.Command {
	var which selection
	var output string
	cmd, _ := c.remoteCommand(&cobra.Command{
		Use: "export", Short: "Download agents, for an import elsewhere", Args: cobra.NoArgs,
		Long: `export downloads the agents that are active or suspended as lines of JSON that
"agentidp agents import" takes, without ids, credentials and secrets. A file is written
beside its place and moved there when it is complete.`,
		Example: "  agentidp agents export -o agents.ndjson\n  agentidp agents export --owner finance | jq -r .email",
	}, "agents:read", func(ctx context.Context, s *session, cmd *cobra.Command, _ []string) error {
		download := func(w io.Writer) (int64, error) {
			body, err := s.follow(ctx, http.MethodGet, "/agents/export", which.query(), "", nil)
			if err != nil {
				return 0, err
			}
			defer func() { _ = body.Close() }()
			n, err := io.Copy(w, body)
			if err != nil {
				err = fmt.Errorf("the export broke off after %d bytes: %w", n, err)
			}
			return n, err
		}
		if output == "" || output == "-" {
			_, err := download(cmd.OutOrStdout())
			return err
		}
		n, err := toFile(output, download)
		if err != nil {
			return err
		}
		out := &printer{w: cmd.ErrOrStderr()}
		out.line("the export is in %s: %d bytes", output, n)
		return out.err
	})
	which.add(cmd, "active", "suspended")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to make; - is standard output (default)")
	return cmd
}
