package app_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// outsider verifies an export of all organizations after docs/audit-format.md alone. It
// shares no code with the product: besides the standard library it has the tree's hash
// function and the signed notes of a public library.
type outsider struct {
	key note.Verifier
	// remembered are the sizes and roots of checkpoints that were accepted earlier.
	remembered map[int64]tlog.Hash

	leaves int64
	// roots are those of the complete subtrees to the left, the largest first, and
	// levels how large they are.
	roots  []tlog.Hash
	levels []int
	// missing and explained are the leaves without an event, and those that a drop names.
	missing, explained map[int64]bool
	size               int64
	root               tlog.Hash
	sealed             bool // the last line was a checkpoint
}

// verify reads an export to its end.
func (o *outsider) verify(export io.Reader) error {
	o.missing, o.explained = map[int64]bool{}, map[int64]bool{}
	lines := bufio.NewScanner(export)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		if err := o.line(lines.Bytes()); err != nil {
			return fmt.Errorf("after %d leaves: %w", o.leaves, err)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if !o.sealed {
		return errors.New("the last line is no checkpoint")
	}
	for leaf := range o.missing {
		if !o.explained[leaf] {
			return fmt.Errorf("event %d is gone, and nothing says why", leaf+1)
		}
	}
	for size := range o.remembered {
		if size > o.size {
			return fmt.Errorf("the log had %d events, and now has %d", size, o.size)
		}
	}
	return nil
}

func (o *outsider) line(line []byte) error {
	var l struct {
		Sequence   *int64          `json:"sequence"`
		LeafHash   string          `json:"leafHash"`
		Version    int             `json:"v"`
		Action     string          `json:"action"`
		Details    json.RawMessage `json:"details"`
		Leaves     [2]int64        `json:"leaves"`
		Hash       string          `json:"hash"`
		Checkpoint string          `json:"checkpoint"`
	}
	if err := json.Unmarshal(line, &l); err != nil {
		return err
	}
	o.sealed = false
	switch {
	case l.Sequence != nil:
		_, rest, ok := bytes.Cut(line, []byte(`"v":`))
		hash := sha256.Sum256(append([]byte("\x00{\"v\":"), rest...))
		if !ok || l.Version != 1 || *l.Sequence != o.leaves+1 || base64.StdEncoding.EncodeToString(hash[:]) != l.LeafHash {
			return fmt.Errorf("event %d is not what the log holds", *l.Sequence)
		}
		if l.Action == "audit.dropped" {
			if err := o.explain(l.Details, *l.Sequence); err != nil {
				return err
			}
		}
		return o.add(0, hash)
	case l.Hash != "":
		hash, err := tlog.ParseHash(l.Hash)
		if err != nil || l.Leaves[0] != o.leaves {
			return errors.New("a subtree does not follow")
		}
		for leaf := l.Leaves[0]; leaf < l.Leaves[1]; leaf++ {
			o.missing[leaf] = true
		}
		level := 0
		for n := l.Leaves[1] - l.Leaves[0]; n > 1; n /= 2 {
			level++
		}
		if l.Leaves[1]-l.Leaves[0] != 1<<level || l.Leaves[0]%(1<<level) != 0 {
			return errors.New("a subtree is not complete")
		}
		return o.add(level, hash)
	case l.Checkpoint != "":
		o.sealed = true
		return o.check(l.Checkpoint)
	}
	return errors.New("a line is of no known kind")
}

// add takes in a complete subtree of 1<<level leaves.
func (o *outsider) add(level int, root tlog.Hash) error {
	o.leaves += 1 << level
	for n := len(o.levels); n > 0 && o.levels[n-1] == level; n-- {
		root = tlog.NodeHash(o.roots[n-1], root)
		o.roots, o.levels, level = o.roots[:n-1], o.levels[:n-1], level+1
	}
	o.roots, o.levels = append(o.roots, root), append(o.levels, level)
	if want, ok := o.remembered[o.leaves]; ok && want != o.fold() {
		return fmt.Errorf("at %d leaves the log is not the one that was seen then", o.leaves)
	}
	return nil
}

// fold gives the root of all leaves so far.
func (o *outsider) fold() tlog.Hash {
	root := o.roots[len(o.roots)-1]
	for i := len(o.roots) - 2; i >= 0; i-- {
		root = tlog.NodeHash(o.roots[i], root)
	}
	return root
}

func (o *outsider) check(signed string) error {
	n, err := note.Open([]byte(signed), note.VerifierList(o.key))
	if err != nil {
		return err
	}
	text := strings.Split(n.Text, "\n")
	size, err := strconv.ParseInt(text[1], 10, 64)
	if err != nil || text[0] != o.key.Name() || size != o.leaves || size > 0 && text[2] != o.fold().String() {
		return fmt.Errorf("a checkpoint of %s leaves is not that of the %d before it", text[1], o.leaves)
	}
	o.size, o.root = size, o.fold()
	return nil
}

// explain notes the leaves that were dropped by their retention.
func (o *outsider) explain(details []byte, sequence int64) error {
	var d struct {
		Sequences string `json:"sequences"`
	}
	if err := json.Unmarshal(details, &d); err != nil {
		return err
	}
	for part := range strings.SplitSeq(d.Sequences, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		from, err := strconv.ParseInt(first, 10, 64)
		to, err2 := strconv.ParseInt(last, 10, 64)
		if err := errors.Join(err, err2); err != nil || to >= sequence {
			return fmt.Errorf("what was dropped is not told: %q", part)
		}
		for ; from <= to; from++ {
			o.explained[from-1] = true
		}
	}
	return nil
}
