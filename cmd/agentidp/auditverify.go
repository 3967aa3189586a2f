package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/verify"
)

// wrongRecord is the exit code where a record was checked and is wrong.
const wrongRecord = 2

// verification is one call of audit verify.
type verification struct {
	c           *command
	exported    exported
	key         string
	state       string
	proof       string
	consistency string
	server      *client // nil: nothing is asked over the network
	memory      *verify.Memory
	pin         *verify.Memory // of the server's key, where it is not the memory itself
}

func (c *command) verifyRecord() *cobra.Command {
	v := &verification{c: c, exported: exported{format: "ndjson", proof: true}}
	cmd := &cobra.Command{
		Use:   "verify [FILE|-]",
		Short: "Check that nobody changed the record",
		Long: `verify checks an export with proofs: the hash and the place of every event, the
signature and the tree of every checkpoint, that what is missing was dropped lawfully
(--all), and that the log only grew since the checkpoint it remembers from last time.
It names the first wrong event. The export is a file, - for standard input, or comes
over the network (--url); --proof checks the proof of one event instead. Nothing is
taken on trust but the log's key: docs/audit-format.md says all that is done.

Get the key from the operator over a channel you trust, and give it with --key: the
text itself or a file. With --url and without a key, the server's own is believed the
first time, with a warning, and remembered.

` + remoteHelp + `

What is remembered is in --state, by default a file for each log in
$XDG_STATE_HOME/agentidp or ~/.local/state/agentidp; it never becomes smaller.

Exit codes: 0 the record is right; 1 it could not be checked; 2 it is wrong.`,
		Example: `  agentidp audit verify events.ndjson --all --key idp.example.com/audit+033de0ae+Aexk…
  agentidp audit verify --url https://idp.example.com --all --key log.key
  agentidp audit verify --proof receipt.json --key log.key
  zcat events.ndjson.gz | agentidp audit verify - --key log.key && echo right`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := v.run(cmd, args)
			if wrong := (*verify.Failure)(nil); errors.As(err, &wrong) {
				return &exitError{code: wrongRecord, err: err}
			}
			return err
		},
	}
	v.exported.remoteFlags(cmd, "the export is of all organizations (only for the operator) and of all time, so every gap must be explained")
	cmd.Flags().StringVar(&v.key, "key", "", "the log's verifier key, or a file that holds it")
	cmd.Flags().StringVar(&v.state, "state", "", "file that remembers the key and the last checkpoint")
	cmd.Flags().StringVar(&v.proof, "proof", "", "file with the proof of one event, - for standard input")
	cmd.Flags().StringVar(&v.consistency, "consistency", "", "file with the answer of /audit/consistency, where a FILE needs it")
	return cmd
}

func (v *verification) run(cmd *cobra.Command, args []string) error {
	if err := v.usage(args); err != nil {
		return err
	}
	ctx := cmd.Context()
	if v.exported.url != "" {
		server, err := remote(v.exported.url, v.exported.allowHTTP)
		if err != nil {
			return err
		}
		v.server = server
	}
	if err := v.recall(ctx, &printer{w: cmd.ErrOrStderr()}); err != nil {
		return err
	}
	if v.proof != "" {
		return v.one(cmd)
	}
	source, size, err := v.open(ctx, cmd, args)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	began, bar := time.Now(), newBar(cmd.ErrOrStderr(), size, v.server == nil)
	sum, err := verify.Export(ctx, source, verify.Config{
		Log: v.memory.Log(), All: v.exported.all, Seen: v.memory.Seen(), Consistency: v.askConsistency(),
		Progress: bar.update(), Now: time.Now,
	})
	took := time.Since(began)
	bar.clear()
	if errors.Is(err, verify.ErrNeedsConsistency) {
		seen := v.memory.Seen().Size
		return fmt.Errorf("%w: save GET /audit/consistency?from=%d&to=%d and give it with --consistency, or verify with --url", err, seen, sum.Last.Size)
	}
	if err != nil {
		return errors.Join(err, v.evidence(&printer{w: cmd.ErrOrStderr()}, err, string(sum.Signed)))
	}
	before := v.memory.Seen()
	if err := v.remember(sum.Signed); err != nil {
		return err
	}
	return v.report(&printer{w: cmd.OutOrStdout()}, sum, before, took)
}

func (v *verification) usage(args []string) error {
	sources := len(args)
	for _, given := range []string{v.proof, v.exported.url} {
		if given != "" {
			sources++
		}
	}
	switch {
	case sources == 0:
		return errors.New("say what to verify: a FILE, --url or --proof")
	case len(args) > 0 && sources > 1:
		return errors.New("FILE: leave it out with --url and --proof")
	case v.consistency != "" && v.exported.url != "":
		return errors.New("--consistency: leave it out with --url, which asks for it")
	case v.exported.organization != "" && v.exported.url == "":
		return errors.New("--organization: only with --url")
	case v.proof != "" && v.exported.all:
		return errors.New("--all: not with --proof, which is of one event")
	}
	return v.exported.check()
}

// open gives the export, and how much it is where that is known: bytes of a file, or
// leaves of the server's log.
func (v *verification) open(ctx context.Context, cmd *cobra.Command, args []string) (io.ReadCloser, int64, error) {
	switch {
	case v.server != nil:
		size := int64(0)
		if isTerminal(cmd.ErrOrStderr()) {
			size = v.currentSize(ctx)
		}
		body, err := v.c.openExport(ctx, &v.exported)
		return body, size, err
	case args[0] == "-":
		return io.NopCloser(cmd.InOrStdin()), 0, nil
	}
	file, err := os.Open(args[0])
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// currentSize is that of the newest checkpoint, for the progress bar alone; 0 where it
// cannot be told.
func (v *verification) currentSize(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	text, err := v.server.text(ctx, "/audit/checkpoint")
	if err != nil {
		return 0
	}
	c, err := transparency.Open([]byte(text), v.memory.Log())
	if err != nil {
		return 0
	}
	return c.Size
}

// askConsistency gives the source of consistency proofs; nil where there is none.
func (v *verification) askConsistency() func(context.Context, int64, int64) (verify.Consistency, error) {
	switch {
	case v.server != nil:
		return v.fetchConsistency
	case v.consistency != "":
		return func(context.Context, int64, int64) (verify.Consistency, error) {
			file, err := os.Open(v.consistency)
			if err != nil {
				return verify.Consistency{}, err
			}
			defer func() { _ = file.Close() }()
			return verify.ReadConsistency(file)
		}
	}
	return nil
}

func (v *verification) fetchConsistency(ctx context.Context, from, to int64) (verify.Consistency, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	query := url.Values{"from": {strconv.FormatInt(from, 10)}, "to": {strconv.FormatInt(to, 10)}}
	var answer json.RawMessage
	if err := v.server.call(ctx, http.MethodGet, "/audit/consistency?"+query.Encode(), "", nil, http.StatusOK, &answer); err != nil {
		return verify.Consistency{}, err
	}
	proof, err := verify.ReadConsistency(bytes.NewReader(answer))
	if err != nil { // it says nothing of the record
		return proof, errors.New("the answer is no consistency proof")
	}
	return proof, nil
}

// evidence prints the two signed checkpoints that contradict each other, which convince
// everybody else, too.
func (v *verification) evidence(out *printer, err error, signed string) error {
	var wrong *verify.Failure
	if !errors.As(err, &wrong) || wrong.Kind != verify.Forked && wrong.Kind != verify.RolledBack {
		return nil
	}
	out.line("keep this, it is the proof. The log signed before:\n\n%s\nand now:\n\n%s", v.memory.Signed(), signed)
	return out.err
}

// report says what was found right.
func (v *verification) report(out *printer, sum verify.Summary, before *transparency.Checkpoint, took time.Duration) error {
	out.line("the record is right: %s, %d leaves", sum.Last.Origin, sum.Last.Size)
	out.line("  events       %d verified", sum.Events)
	out.line("  not shown    %d leaves in %d subtrees: %s", sum.Hidden, sum.Subtrees, v.gaps(sum))
	if sum.Drops > 0 {
		out.line("  dropped      %d events by %d drops, the shortest retention %d days", sum.Dropped, sum.Drops, sum.ShortestRetention)
	}
	out.line("  checkpoints  %d signed, the last with the root %s", sum.Checkpoints, sum.Last.Root)
	if before == nil {
		out.line("  last time    nothing was remembered; from now on the log must contain these %d leaves", sum.Last.Size)
	} else {
		out.line("  last time    it had %d leaves, and still has them", before.Size)
	}
	out.line("  rate         %.0f events/s (%s)", float64(sum.Events)/max(took.Seconds(), 1e-9), took.Round(time.Millisecond))
	return out.err
}

func (v *verification) gaps(sum verify.Summary) string {
	switch {
	case sum.Hidden == 0:
		return "nothing is missing"
	case v.exported.all:
		return "all explained by drops"
	}
	return fmt.Sprintf("%d explained by drops, the rest not told from others' events without --all", sum.Explained)
}
