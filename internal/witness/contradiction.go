package witness

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// ErrForked says that two trees of a log contradict: neither is the beginning of the
// other.
var ErrForked = errors.New("the log was forked")

// ErrCut says that a log shows a smaller tree than it had shown before: it was cut,
// or restored from a backup.
var ErrCut = errors.New("the log was cut")

const (
	// maxSize bounds the size of a tree. Past it the arithmetic of proofs does not end.
	maxSize = int64(1) << 62
	// maxProof is the number of hashes a consistency proof may have (C2SP tlog-witness).
	maxProof = 63
)

// Contradiction is what a log showed that contradicts what it had shown before. Both
// checkpoints carry its signature, so that anybody can judge.
type Contradiction struct {
	// Kind is ErrForked or ErrCut. A witness that was given a wrong proof, by whomever,
	// has another: that is no evidence yet.
	Kind error
	Log  string
	// Known is the signed checkpoint from before, Shown the one that contradicts it.
	Known, Shown string
}

// Error says what happened, without the checkpoints.
func (c *Contradiction) Error() string { return c.Log + ": " + c.Kind.Error() }

// Unwrap gives the kind.
func (c *Contradiction) Unwrap() error { return c.Kind }

// errProof says that a consistency proof proves nothing.
var errProof = errors.New("the consistency proof does not verify")

// grows verifies that the tree of a checkpoint begins with an older one.
func grows(older Seen, c transparency.Checkpoint, proof tlog.TreeProof) error {
	switch {
	case c.Size > maxSize || len(proof) > maxProof:
		return fmt.Errorf("%w: it is out of bounds", errProof)
	case c.Size == 0 && c.Root != emptyRoot():
		return fmt.Errorf("%w: the root of an empty tree is another", errProof)
	case older.Size > c.Size:
		return fmt.Errorf("%w: the tree became smaller", errProof)
	case older.Size == 0 && len(proof) > 0:
		return fmt.Errorf("%w: there is nothing to prove from an empty tree", errProof)
	case older.Size == 0:
		return nil
	}
	if err := tlog.CheckTree(proof, c.Size, c.Root, older.Size, older.Root); err != nil {
		return errProof
	}
	return nil
}

func emptyRoot() tlog.Hash { return sha256.Sum256(nil) }
