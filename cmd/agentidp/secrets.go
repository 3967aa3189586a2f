package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

// Bounds of a scan.
const (
	defaultMaxFile = 256 << 20 // bytes
	// maxFindings is more than anybody reads.
	maxFindings  = 100_000
	lookUpAtOnce = 100
)

// exitFound is what a scan ends with that found secrets.
const exitFound = 2

func (c *command) secrets() *cobra.Command {
	secrets := &cobra.Command{Use: "secrets", Short: "Secrets that are where they must not be", Args: cobra.NoArgs, RunE: help}
	secrets.AddCommand(c.scanSecrets())
	return secrets
}

// scan is one scan of files.
type scan struct {
	url       string
	allowHTTP bool
	maxFile   int64

	found []finding
	// missed counts what could not be read, or not wholly.
	missed, files int
	warn          *printer
}

// finding is a secret that was found; of the secret itself nothing is kept.
type finding struct {
	path  string
	line  int
	keyID string
	// status is what a server says, empty where none was asked.
	status, agentID string
}

func (c *command) scanSecrets() *cobra.Command {
	s := &scan{}
	cmd := &cobra.Command{
		Use:   "scan PATH...",
		Short: "Find client secrets in files",
		Long: `scan looks for client secrets in files, and in all files of folders, and prints where each
one stands and its key id, never the secret. What has a wrong checksum is no secret; no
server is asked for that. - is standard input. Links are not followed, archives not opened.

With --url a server is asked which of them are live: it is told the key ids alone.
AGENTIDP_CLIENT_ID and AGENTIDP_CLIENT_SECRET, or the name of a file in
AGENTIDP_CLIENT_SECRET_FILE, name a client that may agents:read.

The exit code is 0 where there is no secret, 2 where there is one, and 1 where not
everything could be read, or the server asked.`,
		Example: `  agentidp secrets scan .
  git log -p --all | agentidp secrets scan -
  agentidp secrets scan --url https://idp.example.com src deploy`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.maxFile < 1 {
				return errors.New("--max-file-bytes: must be at least 1")
			}
			s.warn = &printer{w: cmd.ErrOrStderr()}
			for _, path := range args {
				if path == "-" {
					s.read(cmd.Context(), path, cmd.InOrStdin())
					continue
				}
				s.walk(cmd.Context(), path)
			}
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if s.url != "" && len(s.found) > 0 {
				if err := c.lookUp(cmd.Context(), s); err != nil {
					s.warn.line("asking which are live: %v", err)
					s.missed++
				}
			}
			return s.report(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&s.url, "url", "", "ask this server which of them are live")
	cmd.Flags().BoolVar(&s.allowHTTP, "allow-http", false, "send the client's secret in the clear, where the network is trusted")
	cmd.Flags().Int64Var(&s.maxFile, "max-file-bytes", defaultMaxFile, "of a longer file only the beginning is read")
	return cmd
}

func (s *scan) walk(ctx context.Context, root string) {
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			s.miss(path, err)
			return nil
		case !entry.Type().IsRegular() && (path != root || entry.IsDir()):
			return nil // a folder, a link, a device
		}
		s.open(ctx, path)
		return nil
	})
	if err != nil && ctx.Err() == nil {
		s.miss(root, err)
	}
}

// shown is a path as it is, where that cannot fool a terminal.
func shown(path string) string {
	if quoted := strconv.Quote(path); quoted != `"`+path+`"` {
		return quoted
	}
	return path
}

func (s *scan) miss(path string, err error) {
	s.missed++
	s.warn.line("%s was not read: %v", shown(path), err)
}

func (s *scan) open(ctx context.Context, path string) {
	file, err := os.Open(path) //nolint:gosec // the user says which files
	if err != nil {
		s.miss(path, err)
		return
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		s.miss(path, errors.Join(err, errors.New("it is no regular file")))
		return
	}
	s.read(ctx, path, file)
}

var errTooMany = errors.New("too many secrets were found")

// read looks through one file.
func (s *scan) read(ctx context.Context, path string, r io.Reader) {
	s.files++
	bounded := &io.LimitedReader{R: &stoppable{ctx: ctx, r: r}, N: s.maxFile + 1}
	err := credential.Scan(bounded, func(line int, found credential.Secret) {
		if len(s.found) < maxFindings {
			s.found = append(s.found, finding{path: path, line: line, keyID: found.KeyID()})
		}
	})
	switch {
	case err != nil:
		s.miss(path, err)
	case bounded.N <= 0:
		s.miss(path, fmt.Errorf("only its first %d bytes were, see --max-file-bytes", s.maxFile))
	case len(s.found) == maxFindings:
		s.miss(path, errTooMany)
	}
}

// stoppable is a reader that ends with its context.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

// Read fails once the context is done.
func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(p)
}

// lookUp asks a server which of the secrets are live.
func (c *command) lookUp(ctx context.Context, s *scan) error {
	server, err := remote(s.url, s.allowHTTP)
	if err != nil {
		return err
	}
	bearer, err := c.bearer(ctx, server, "agents:read")
	if err != nil {
		return err
	}
	type known struct{ Status, AgentID string }
	all := map[string]known{}
	var batch []string
	ask := func() error {
		if len(batch) == 0 {
			return nil
		}
		var answer struct {
			Items []struct {
				KeyID   string `json:"keyId"`
				Status  string `json:"status"`
				AgentID string `json:"agentId"`
			} `json:"items"`
		}
		err := server.call(ctx, http.MethodPost, "/secrets/lookup", bearer.Reveal(), map[string]any{"keyIds": batch}, http.StatusOK, &answer)
		for _, item := range answer.Items {
			all[item.KeyID] = known{item.Status, item.AgentID}
		}
		batch = nil
		return err
	}
	for _, f := range s.found {
		if _, asked := all[f.keyID]; asked {
			continue
		}
		all[f.keyID] = known{}
		if batch = append(batch, f.keyID); len(batch) == lookUpAtOnce {
			if err := ask(); err != nil {
				return err
			}
		}
	}
	if err := ask(); err != nil {
		return err
	}
	for i, f := range s.found {
		s.found[i].status, s.found[i].agentID = all[f.keyID].Status, all[f.keyID].AgentID
	}
	return nil
}

func (s *scan) report(w io.Writer) error {
	out := &printer{w: w}
	for _, f := range s.found {
		text := fmt.Sprintf("%s:%d: client secret of key id %s", shown(f.path), f.line, f.keyID)
		if f.status != "" {
			text += ", " + f.status
		}
		if f.agentID != "" {
			text += ", of agent " + f.agentID
		}
		out.line("%s", text)
	}
	if err := errors.Join(out.err, s.warn.err); err != nil {
		return err
	}
	switch {
	case len(s.found) > 0:
		return &exitError{code: exitFound, err: fmt.Errorf("%d client secrets in %d files", len(s.found), s.files)}
	case s.missed > 0:
		return fmt.Errorf("no client secret was found, but %d files could not be read", s.missed)
	}
	s.warn.line("no client secret in %d files", s.files)
	return s.warn.err
}
