package verify

import (
	"context"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// ErrNeedsConsistency says that an export does not show the tree at the size that was
// remembered, so that only a consistency proof can tell whether the log only grew.
var ErrNeedsConsistency = errors.New("the export does not show the tree at the remembered size, a consistency proof is needed")

// Config says how to verify an export.
type Config struct {
	// Log is the key of the log.
	Log note.Verifier
	// All says that the export is of all organizations: each gap must be explained.
	All bool
	// Seen is the checkpoint that was accepted last time; nil where there is none.
	Seen *transparency.Checkpoint
	// Consistency asks for the proof between two sizes where the export alone cannot
	// tell that the log only grew. Without it that is ErrNeedsConsistency.
	Consistency func(ctx context.Context, from, to int64) (Consistency, error)
	// Progress is told now and then how far it is, where it is set.
	Progress func(Summary)
	// Now is the clock that dates are held against; time.Now where it is not set.
	Now func() time.Time
}

// Summary is what an export holds, as far as it was read.
type Summary struct {
	Bytes       int64
	Events      int64
	Subtrees    int64
	Checkpoints int64
	// Hidden leaves are in subtrees; the drops that are shown explain so many of them.
	Hidden, Explained int64
	Drops             int64
	// Dropped counts what the drops name, also where it is shown.
	Dropped int64
	// ShortestRetention is the shortest that a drop followed, in days; 0 without drops.
	ShortestRetention int64
	// Last is the last checkpoint that was right, or that shows a fork, and Signed the
	// note that it came in.
	Last   transparency.Checkpoint
	Signed []byte
}

// Leaves are how many leaves of the tree were covered.
func (s Summary) Leaves() int64 { return s.Events + s.Hidden }
