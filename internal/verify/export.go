package verify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

const (
	// maxLine bounds a line of an export, in bytes, with its line feed.
	maxLine = 1 << 20
	// reportEvery is how many lines lie between two reports of progress.
	reportEvery = 4096
)

// exportReader holds one export while it is read.
type exportReader struct {
	cfg  Config
	in   *bufio.Reader
	line int64
	tree tree
	gaps gaps
	ages ages
	sum  Summary
	now  time.Time

	ended     bool // the last line was a checkpoint
	passed    bool // the tree had the remembered size, and
	different bool // another root than was remembered
}

// Export verifies an export with proofs in one pass. It fails with a *Failure where the
// record is wrong, with ErrNeedsConsistency, and with any other error where the export
// could not be read. The summary tells how far it came.
func Export(ctx context.Context, r io.Reader, cfg Config) (Summary, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := &exportReader{cfg: cfg, in: bufio.NewReaderSize(r, maxLine), now: cfg.Now()}
	err := e.read(ctx)
	if err == nil {
		err = e.finish(ctx)
	}
	return e.sum, err
}

func (e *exportReader) read(ctx context.Context) error {
	e.compareSeen()
	for {
		line, err := e.next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e.ended = false
		switch {
		case bytes.HasPrefix(line, []byte(eventStart)):
			err = e.event(line)
		case bytes.HasPrefix(line, []byte(subtreeStart)):
			err = e.subtree(line)
		case bytes.HasPrefix(line, []byte(checkpointStart)):
			err = e.checkpoint(line)
		default:
			err = e.fail(Malformed, e.tree.size+1, errLine.Error())
		}
		if err != nil {
			return err
		}
	}
}

// next gives the next line that is not blank, without its line feed.
func (e *exportReader) next(ctx context.Context) ([]byte, error) {
	for {
		line, err := e.in.ReadSlice('\n')
		e.sum.Bytes += int64(len(line))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			e.line++
			return nil, e.fail(Malformed, e.tree.size+1, "the line is longer than 1 MiB")
		case errors.Is(err, io.EOF) && len(line) > 0:
			e.line++
			return nil, e.fail(CutOff, e.tree.size+1, "the export ends within a line")
		case err != nil:
			return nil, err
		}
		e.line++
		if e.line%reportEvery == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if e.cfg.Progress != nil {
				e.cfg.Progress(e.sum)
			}
		}
		if line = line[:len(line)-1]; len(line) > 0 {
			return line, nil
		}
	}
}

func (e *exportReader) event(line []byte) error {
	entry, err := readEvent(line)
	expected := e.tree.size + 1
	if errors.Is(err, errNoProof) && e.sum.Leaves() == 0 {
		return err
	}
	if err != nil {
		return e.fail(Malformed, expected, err.Error())
	}
	if entry.sequence != expected {
		head, _ := readHead(entry.body())
		return e.misplaced(entry.sequence-1, string(head.id))
	}
	hash := tlog.Hash(sha256.Sum256(entry.hashed))
	head, err := readHead(entry.body())
	switch {
	case !entry.holds(hash):
		return e.failAt(Altered, expected, head, "its bytes do not have the hash that the log holds for it")
	case err != nil:
		return e.failAt(Malformed, expected, head, err.Error())
	case head.version != 1:
		return e.failAt(UnknownVersion, expected, head, fmt.Sprintf("version %d is not known here", head.version))
	}
	if maybeDrop(entry.body()) {
		if err := e.drop(entry, head); err != nil {
			return err
		}
	}
	if head.millis <= e.now.Add(clockSkew).UnixMilli() {
		e.ages.add(expected, head.millis)
	}
	e.sum.Events++
	e.tree.add(0, hash)
	e.compareSeen()
	return nil
}

func (e *exportReader) drop(entry eventLine, head head) error {
	d, err := readDrop(entry.body())
	if err != nil {
		return e.failAt(Malformed, entry.sequence, head, err.Error())
	}
	if d == nil {
		return nil
	}
	if err := d.check(entry.sequence, e.now, &e.ages); err != nil {
		return e.failAt(UnlawfulDrop, entry.sequence, head, err.Error())
	}
	if err := d.each(func(from, to int64) { e.sum.Explained += e.gaps.explain(from, to) }); err != nil {
		return e.failAt(UnlawfulDrop, entry.sequence, head, err.Error())
	}
	e.sum.Drops++
	e.sum.Dropped += d.count
	if e.sum.ShortestRetention == 0 || d.retentionDays < e.sum.ShortestRetention {
		e.sum.ShortestRetention = d.retentionDays
	}
	return nil
}

func (e *exportReader) subtree(line []byte) error {
	s, err := readSubtree(line)
	if err != nil {
		return e.fail(Malformed, e.tree.size+1, err.Error())
	}
	if s.from != e.tree.size {
		return e.misplaced(s.from, "")
	}
	e.sum.Subtrees++
	e.sum.Hidden += s.to - s.from
	e.gaps.add(s.from, s.to)
	e.tree.add(s.level, s.hash)
	e.compareSeen()
	return nil
}

func (e *exportReader) checkpoint(line []byte) error {
	signed, err := readCheckpoint(line)
	if err != nil {
		return e.fail(Malformed, e.tree.size+1, err.Error())
	}
	c, err := transparency.Open(signed, e.cfg.Log)
	if err != nil {
		return e.between(WrongSignature, err.Error())
	}
	size := e.tree.size
	switch {
	case c.Size < e.sum.Last.Size:
		return e.fail(Reordered, c.Size, fmt.Sprintf("the checkpoint of size %d comes after that of size %d", c.Size, e.sum.Last.Size))
	case c.Size > size:
		return e.fail(Missing, size+1, fmt.Sprintf("the checkpoint is of %d leaves, and the export shows %d before it", c.Size, size))
	case c.Size < size:
		return e.fail(Inserted, c.Size+1, fmt.Sprintf("the checkpoint is of %d leaves, and the export shows %d before it", c.Size, size))
	case c.Root != e.tree.root():
		return e.between(WrongTree, fmt.Sprintf("the leaves do not lead to the root of the checkpoint of size %d", c.Size))
	case e.different:
		e.sum.Last, e.sum.Signed = c, signed // the proof of it, together with the remembered one
		return &Failure{Kind: Forked, Sequence: 1, Last: e.cfg.Seen.Size, Line: e.line, Detail: fmt.Sprintf(
			"the log signed a tree of %d leaves that does not contain the tree of %d leaves it showed before", c.Size, e.cfg.Seen.Size)}
	}
	e.sum.Checkpoints++
	e.sum.Last, e.sum.Signed, e.ended = c, signed, true
	return nil
}

// compareSeen looks whether the tree, now that it has the remembered size, has the root
// that was remembered. What a difference means the next checkpoint tells.
func (e *exportReader) compareSeen() {
	if seen := e.cfg.Seen; seen != nil && seen.Size == e.tree.size {
		e.passed, e.different = true, seen.Root != e.tree.root()
	}
}

// finish makes the checks that need all of the export.
func (e *exportReader) finish(ctx context.Context) error {
	if !e.ended {
		e.line = 0
		return e.fail(CutOff, e.sum.Last.Size+1, "the last line is not a checkpoint, so nothing proves what comes after the last one")
	}
	e.line = 0
	if leaf, found := e.gaps.first(); found && e.cfg.All {
		return e.fail(Unexplained, leaf+1, fmt.Sprintf("its body is gone and no audit.dropped event names it (%d such events)", e.sum.Hidden-e.sum.Explained))
	}
	seen, last := e.cfg.Seen, e.sum.Last
	switch {
	case seen == nil || e.passed:
		return nil
	case seen.Size > last.Size:
		return rolledBack(*seen, last)
	case e.cfg.Consistency == nil:
		return ErrNeedsConsistency
	}
	proof, err := e.cfg.Consistency(ctx, seen.Size, last.Size)
	if err != nil {
		return fmt.Errorf("asking for the consistency proof from %d to %d: %w", seen.Size, last.Size, err)
	}
	return proof.Verify(*seen, last)
}

// misplaced tells a leaf that is missing from one that comes too late or twice. It reads
// on for a while to see, as the failure is certain.
func (e *exportReader) misplaced(leaf int64, id string) error {
	expected := e.tree.size
	if leaf < expected {
		f := e.fail(Reordered, leaf+1, fmt.Sprintf("it comes after event %d: twice, or too late", expected))
		f.ID = id
		return f
	}
	f := e.fail(Missing, expected+1, fmt.Sprintf("event %d comes in its place", leaf+1))
	for range 1000 {
		line, err := e.in.ReadSlice('\n')
		if err != nil {
			break
		}
		if entry, err := readEvent(line); err == nil && entry.sequence == expected+1 {
			head, _ := readHead(entry.body())
			f.Kind, f.ID = Reordered, string(head.id)
			break
		}
		if s, err := readSubtree(bytes.TrimSuffix(line, []byte("\n"))); err == nil && s.from <= expected && expected < s.to {
			f.Kind = Reordered
			break
		}
	}
	return f
}

func (e *exportReader) fail(kind Kind, sequence int64, detail string) *Failure {
	return &Failure{Kind: kind, Sequence: sequence, Line: e.line, Detail: detail}
}

func (e *exportReader) failAt(kind Kind, sequence int64, h head, detail string) *Failure {
	f := e.fail(kind, sequence, detail)
	f.ID = string(h.id)
	return f
}

// between is a failure in what came since the last tree that was known to be right.
func (e *exportReader) between(kind Kind, detail string) *Failure {
	right, wrong := e.sum.Last.Size, e.tree.size
	if seen := e.cfg.Seen; seen != nil && e.passed {
		if e.different {
			wrong = min(wrong, seen.Size)
		} else {
			right = max(right, seen.Size)
		}
	}
	f := e.fail(kind, right+1, detail)
	f.Last = wrong
	if wrong <= right { // nothing but the checkpoint itself can be wrong
		f.Sequence, f.Last = 0, 0
	}
	return f
}
