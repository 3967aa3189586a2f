package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// lineResult is the answer to one line of an import.
type lineResult struct {
	Line         int64           `json:"line"`
	Result       string          `json:"result"`
	ID           string          `json:"id,omitempty"`
	Email        string          `json:"email,omitempty"`
	AuditEventID string          `json:"auditEventId,omitempty"`
	Credential   json.RawMessage `json:"credential,omitempty"`
	Error        json.RawMessage `json:"error,omitempty"`
}

// report keeps the results of an import, and counts them.
type report struct {
	out   io.Writer // nil where nobody wants the results
	file  *os.File  // that out is, nil for standard output
	keeps bool      // whether secrets are kept
	known map[string]bool

	created, unchanged, failed int
	failures                   []lineResult
	lost                       []string // agents whose credential nobody has
	lostMore                   int
}

// newReport appends to a file of results, or prints them.
func newReport(path string, stdout io.Writer, printed bool) (*report, error) {
	r := &report{known: map[string]bool{}, keeps: path != "" || printed}
	switch {
	case path != "":
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // the user says which file
		if err != nil {
			return nil, err
		}
		r.file, r.out = file, file
		if err := r.recall(); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	case printed:
		r.out = stdout
	}
	return r, nil
}

// recall learns from an earlier import's results whose secrets are known. The last line
// may have been cut off.
func (r *report) recall() error {
	lines := bufio.NewReader(r.file)
	for {
		text, err := lines.ReadBytes('\n')
		var one lineResult
		if json.Unmarshal(text, &one) == nil && len(one.Credential) > 0 {
			r.known[one.ID] = true
		}
		if errors.Is(err, io.EOF) {
			if len(text) > 0 {
				_, err := r.file.WriteString("\n")
				return err
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// add keeps a result, at once, as its secret is nowhere else; asked says whether the line may have asked for a credential.
func (r *report) add(one lineResult, asked bool) error {
	switch one.Result {
	case "created":
		r.created++
		r.known[one.ID] = r.known[one.ID] || len(one.Credential) > 0
	case "unchanged":
		r.unchanged++
		if asked && !r.known[one.ID] {
			r.lostMore++
			if len(r.lost) < failuresShown {
				r.lost = append(r.lost, one.Email)
			}
		}
	default:
		if r.failed++; len(r.failures) < failuresShown {
			r.failures = append(r.failures, one)
		}
	}
	if r.out == nil {
		return nil
	}
	text, err := json.Marshal(one)
	if err == nil {
		_, err = r.out.Write(append(text, '\n'))
	}
	return err
}

func (r *report) lines() int { return r.created + r.unchanged + r.failed }

// sync makes what was added last.
func (r *report) sync() error {
	if r.file == nil {
		return nil
	}
	return r.file.Sync()
}

// close makes all that was added last, whatever came of the import.
func (r *report) close() error {
	err := r.sync()
	if r.file != nil {
		err = errors.Join(err, r.file.Close())
	}
	return err
}

// tell says in the end what became of the lines.
func (r *report) tell(summary, complaints io.Writer, results string) error {
	out, bad := &printer{w: summary}, &printer{w: complaints}
	for _, one := range r.failures {
		text := one.Result
		if f, err := decoded[failure](one.Error); err == nil {
			text = f.text()
		}
		bad.line("line %d: %s", one.Line, text)
	}
	if more := r.failed - len(r.failures); more > 0 {
		bad.line("and %d more that failed", more)
	}
	for _, email := range r.lost {
		bad.line("nobody has the secret of %s: agentidp credentials create %s", email, email)
	}
	if more := r.lostMore - len(r.lost); more > 0 {
		bad.line("and %d more whose secret nobody has", more)
	}
	where := ""
	if results != "" {
		where = fmt.Sprintf("; the results are in %s", results)
	}
	out.line("%d lines: %d created, %d unchanged, %d failed%s", r.lines(), r.created, r.unchanged, r.failed, where)
	return errors.Join(out.err, bad.err)
}
