package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func (c *command) exportRecord() *cobra.Command {
	e := &exported{}
	var output string
	cmd := &cobra.Command{
		Use:   "export --url URL",
		Short: "Download the record",
		Long: `export downloads the record, oldest events first, up to the newest checkpoint: as lines
of JSON, as CSV, or as lines of OCSF events. A file is written beside its place and
moved there when it is complete, so that one that was cut off never looks whole.
With --proof the lines carry what "agentidp audit verify" needs to check them offline.

` + remoteHelp,
		Example: `  agentidp audit export --url https://idp.example.com -o events.ndjson --proof --all
  agentidp audit export --url https://idp.example.com --format csv --from 2026-01-01T00:00:00Z -o january.csv
  agentidp audit export --url https://idp.example.com --after 1042 | jq .action`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.check(); err != nil {
				return err
			}
			if output == "" || output == "-" {
				_, err := c.download(cmd.Context(), e, cmd.OutOrStdout())
				return err
			}
			n, err := toFile(output, func(w io.Writer) (int64, error) { return c.download(cmd.Context(), e, w) })
			if err != nil {
				return err
			}
			out := &printer{w: cmd.ErrOrStderr()}
			out.line("the export is in %s: %d bytes", output, n)
			return out.err
		},
	}
	e.remoteFlags(cmd, "the events of all organizations; only for the operator")
	cmd.Flags().StringVar(&e.format, "format", "ndjson", "ndjson, csv or ocsf")
	cmd.Flags().BoolVar(&e.proof, "proof", false, "with hashes and checkpoints, to be verified")
	cmd.Flags().Int64Var(&e.after, "after", 0, "only events after this sequence")
	cmd.Flags().StringVar(&e.from, "from", "", "only events at this time or later")
	cmd.Flags().StringVar(&e.to, "to", "", "only events before this time")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to make; - is standard output (default)")
	return cmd
}

// toFile puts what write writes into a file, whole or not at all, and gives its length.
func toFile(path string, write func(io.Writer) (int64, error)) (n int64, err error) {
	part, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".part-*") // with mode 0600
	if err != nil {
		return 0, fmt.Errorf("--output: %w", err)
	}
	n, err = write(part)
	if err == nil {
		err = part.Sync()
	}
	err = errors.Join(err, part.Close())
	if err == nil {
		err = os.Rename(part.Name(), path)
	}
	if err != nil {
		return n, errors.Join(err, os.Remove(part.Name()))
	}
	return n, nil
}

// download writes the export as it comes, and fails where it is not complete.
func (c *command) download(ctx context.Context, e *exported, to io.Writer) (int64, error) {
	body, err := c.openExport(ctx, e)
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }()
	end := &lastLine{}
	n, err := io.Copy(io.MultiWriter(to, end), body)
	if err != nil {
		return n, fmt.Errorf("the export broke off after %d bytes: %w", n, err)
	}
	if e.proof && !end.isCheckpoint() {
		return n, fmt.Errorf("the export broke off after %d bytes: it does not end with a checkpoint", n)
	}
	return n, nil
}

// openExport asks the server for the export.
func (c *command) openExport(ctx context.Context, e *exported) (io.ReadCloser, error) {
	server, err := remote(e.url, e.allowHTTP)
	if err != nil {
		return nil, err
	}
	token, err := c.bearer(ctx, server, e.scopes())
	if err != nil {
		return nil, err
	}
	body, err := server.stream(ctx, "/audit/export", e.query(), token)
	if err != nil {
		return nil, fmt.Errorf("asking for the export: %w", err)
	}
	return body, nil
}

// lastLine keeps how the last line that is not blank begins, and whether it has ended.
type lastLine struct {
	begins []byte
	ended  bool
}

// Write looks at the next piece.
func (l *lastLine) Write(p []byte) (int, error) {
	const enough = len(`{"checkpoint":`)
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		if len(line) > 0 {
			if l.ended {
				l.begins, l.ended = l.begins[:0], false
			}
			l.begins = append(l.begins, line[:min(len(line), max(0, enough-len(l.begins)))]...)
		}
		l.ended = l.ended || ended
		rest = after
	}
	return len(p), nil
}

func (l *lastLine) isCheckpoint() bool { return l.ended && string(l.begins) == `{"checkpoint":` }
