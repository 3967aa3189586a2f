package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// Bounds on an import. A server is sent no more at a time than it takes from a client
// that does not read meanwhile.
const (
	importLines   = 1000
	importBytes   = 4 << 20
	maxImportLine = 1 << 20
	failuresShown = 20
)

// How long an import waits before it tries again: at first, and at most.
const (
	firstPause = 500 * time.Millisecond
	mostPause  = 30 * time.Second
)

func (c *command) importAgents() *cobra.Command {
	var results string
	var patience time.Duration
	cmd, f := c.remoteCommand(&cobra.Command{
		Use: "import FILE", Short: "Register many agents", Args: cobra.ExactArgs(1),
		Long: `import registers an agent for each line of a file, or of standard input where FILE is -.
A line is what POST /agents takes, and may have a "status" (active, suspended) and a
"credential" ({"label", "expiresAt"}): a credential is made only where it has one, and its
secret is in the results alone, so say with --results or --json where they go.

It can be broken off and started again: the server answers "unchanged" to a line whose
agent exists as the line says, and changes nothing. A line fails alone; the exit code is
then 2, beside those below. A server that is away or busy is tried again for --patience.
Where the answer with a secret was lost, the report says which agents to make a
credential for.`,
		Example: `  agentidp agents import fleet.ndjson --results results.ndjson
  agentidp agents export --url https://old.example.com | agentidp agents import - --url https://new.example.com`,
	}, "agents:write", nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := c.session(f, "agents:write")
		if err != nil {
			return err
		}
		return told(s.importFile(cmd, args[0], results, patience))
	}
	cmd.Flags().StringVar(&results, "results", "", "file to append the results to, a line each, with the secrets; made with mode 0600")
	cmd.Flags().DurationVar(&patience, "patience", 5*time.Minute, "how long to try again where the server is away or busy")
	return cmd
}

// importFile imports a file and reports.
func (s *session) importFile(cmd *cobra.Command, path, results string, patience time.Duration) error {
	file, size, err := openInput(cmd.InOrStdin(), path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	report, err := newReport(results, cmd.OutOrStdout(), s.flags.json)
	if err != nil {
		return fmt.Errorf("--results: %w", err)
	}
	im := &lineImport{session: s, report: report, patience: patience, bar: newBar(cmd.ErrOrStderr(), size, true)}
	err = im.run(cmd.Context(), file)
	im.bar.clear()
	text := cmd.OutOrStdout()
	if s.flags.json {
		text = cmd.ErrOrStderr()
	}
	said := report.tell(text, cmd.ErrOrStderr(), results)
	switch err = errors.Join(err, said, report.close()); {
	case err != nil:
		return err
	case report.failed > 0:
		return &exitError{exitLines, fmt.Errorf("%d of %d lines failed", report.failed, report.lines())}
	}
	return nil
}

// openInput opens the file of an import; its size is 0 where it is not known.
func openInput(stdin io.Reader, path string) (io.ReadCloser, int64, error) {
	if path == "-" {
		return io.NopCloser(stdin), 0, nil
	}
	file, err := os.Open(path) //nolint:gosec // the user says which file
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// lineImport is an import while it runs.
type lineImport struct {
	*session
	report   *report
	patience time.Duration
	bar      *bar
	number   int64 // of the last line that was read
	bytes    int64 // that were imported
}

// inputLine is a line that is not blank.
type inputLine struct {
	number int64
	text   []byte
}

func (im *lineImport) run(ctx context.Context, file io.Reader) error {
	input := bufio.NewScanner(file)
	input.Buffer(make([]byte, 0, 64<<10), maxImportLine)
	for more := true; more; {
		var lines []inputLine
		size := 0
		for len(lines) < importLines && size < importBytes {
			if more = input.Scan(); !more {
				break
			}
			im.number++
			size += len(input.Bytes()) + 1
			if len(bytes.TrimSpace(input.Bytes())) > 0 {
				lines = append(lines, inputLine{im.number, bytes.Clone(input.Bytes())})
			}
		}
		if err := im.all(ctx, lines); err != nil {
			return err
		}
		im.bytes += int64(size)
	}
	if err := input.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than 1 MiB; nothing from there on was imported", im.number+1)
	} else if err != nil {
		return fmt.Errorf("reading line %d: %w", im.number+1, err)
	}
	return nil
}

// all imports some lines, and tries again what was not answered.
func (im *lineImport) all(ctx context.Context, lines []inputLine) error {
	if !im.report.keeps {
		for _, line := range lines {
			if asksForCredential(line.text) {
				return fmt.Errorf("line %d asks for a credential: say with --results FILE, or --json, where its secret goes", line.number)
			}
		}
	}
	pause, until := firstPause, time.Now().Add(im.patience)
	for len(lines) > 0 {
		answered, err := im.some(ctx, lines)
		if answered > 0 {
			pause, until = firstPause, time.Now().Add(im.patience)
		}
		lines = lines[answered:]
		if len(lines) == 0 {
			break
		}
		if err == nil {
			err = errUnanswered
		}
		wait, again := tryAgain(err, pause)
		if !again || ctx.Err() != nil || time.Now().Add(wait).After(until) {
			return fmt.Errorf("importing from line %d on: %w", lines[0].number, err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause = min(2*pause, mostPause)
	}
	return im.report.sync()
}

// errUnanswered says that an answer ended before all lines were answered.
var errUnanswered = errors.New("the server did not answer all lines")

// tryAgain says whether it helps to try again, and when.
func tryAgain(err error, pause time.Duration) (wait time.Duration, again bool) {
	if r := (*refusal)(nil); errors.As(err, &r) {
		return max(pause, r.retryAfter), transient(r.status)
	}
	e := (*localError)(nil)
	return pause, !errors.As(err, &e)
}

// localError is one that has nothing to do with the server.
type localError struct{ error }

// asksForCredential is quick, and says yes where it is in doubt.
func asksForCredential(line []byte) bool {
	return bytes.Contains(line, []byte(`"credential"`)) || bytes.Contains(line, []byte(`\u`))
}

// some imports lines by one request, and says how many were answered.
func (im *lineImport) some(ctx context.Context, lines []inputLine) (answered int, err error) {
	var body bytes.Buffer
	for _, line := range lines {
		body.Write(line.text)
		body.WriteByte('\n')
	}
	answer, err := im.follow(ctx, http.MethodPost, "/agents/import", nil, ndjson, body.Bytes())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, answer.Close()) }()
	results := bufio.NewScanner(answer)
	results.Buffer(make([]byte, 0, 64<<10), maxAnswer)
	for results.Scan() && answered < len(lines) {
		var r lineResult
		if err := json.Unmarshal(results.Bytes(), &r); err != nil || r.Line != int64(answered+1) {
			return answered, &localError{fmt.Errorf("the server's answer to line %d is not one: %q", lines[answered].number, results.Bytes())}
		}
		r.Line = lines[answered].number
		if err := im.report.add(r, asksForCredential(lines[answered].text)); err != nil {
			return answered, &localError{err}
		}
		answered++
		im.draw()
	}
	return answered, results.Err()
}

// draw shows how far the import is.
func (im *lineImport) draw() {
	n := im.report.lines()
	im.bar.draw(func(took time.Duration) string {
		more := fmt.Sprintf("%d lines  %.0f/s", n, float64(n)/max(took.Seconds(), 1e-3))
		if im.bar.total == 0 {
			return "importing  " + more
		}
		return im.bar.gauge("importing", im.bytes, took, more)
	})
}
