package transparency

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Prove gives a consistency proof from the tree of an older size to that of a newer one.
type Prove = func(ctx context.Context, from, to int64) (tlog.TreeProof, error)

func consistency(ctx context.Context, store TileStore, c Checkpoint, older int64) (tlog.TreeProof, error) {
	if older == 0 || older == c.Size {
		return tlog.TreeProof{}, nil // there is nothing to prove
	}
	p, err := tlog.ProveTree(c.Size, older, c.reader(ctx, store))
	if err != nil {
		return nil, fmt.Errorf("proving that the log grew from %d to %d: %w", older, c.Size, err)
	}
	return p, nil
}

// reader gives hashes of the checkpoint's tree, each proven to be of it.
func (c Checkpoint) reader(ctx context.Context, store TileStore) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: c.Root}, tileReader{ctx, store})
}

// at gives the tree of the log when it had that size, unsigned.
func (c Checkpoint) at(ctx context.Context, store TileStore, size int64) (Checkpoint, error) {
	if size == c.Size {
		return c, nil
	}
	root, err := tlog.TreeHash(size, c.reader(ctx, store))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("reading the tree of size %d: %w", size, err)
	}
	return Checkpoint{Origin: c.Origin, Size: size, Root: root}, nil
}

// patience is how long an event that was just recorded is waited for, and glance how
// often is looked.
const (
	patience = 3 * time.Second
	glance   = 50 * time.Millisecond
)

// Log tells readers what the tree stands at, and proves it.
type Log struct {
	store TileStore
	key   *Key
}

// NewLog makes the readers' side of the log.
func NewLog(store TileStore, key *Key) *Log { return &Log{store: store, key: key} }

// Verifier gives the log's public key as a C2SP verifier key.
func (l *Log) Verifier() string { return l.key.Verifier() }

// Checkpoint gives the newest published checkpoint, signed. The first of a log that has
// just begun is waited for; UNAVAILABLE says that there is none yet.
func (l *Log) Checkpoint(ctx context.Context) ([]byte, error) { return l.published(ctx, 0) }

// Newest is Checkpoint, read too.
func (l *Log) Newest(ctx context.Context) (Checkpoint, []byte, error) { return l.Covering(ctx, 0) }

// Covering is Newest, once that covers the sequence: it is waited for a moment.
// UNAVAILABLE where that was too short.
func (l *Log) Covering(ctx context.Context, sequence int64) (Checkpoint, []byte, error) {
	signed, err := l.published(ctx, sequence)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	c, err := Open(signed, l.key.verifier)
	return c, signed, err
}

// published waits for a checkpoint that covers the sequence.
func (l *Log) published(ctx context.Context, sequence int64) ([]byte, error) {
	ticker := time.NewTicker(glance)
	defer ticker.Stop()
	for late := time.After(patience); ; {
		tree, err := l.store.Tree(ctx)
		if err != nil {
			return nil, err
		}
		if tree.Published != nil && tree.PublishedSize >= sequence {
			return tree.Published, nil
		}
		select {
		case <-ctx.Done():
			return nil, fault.UnavailableBecause(context.Cause(ctx))
		case <-late:
			return nil, fault.UnavailableBecause(fmt.Errorf("no checkpoint covers event %d yet", sequence))
		case <-ticker.C:
		}
	}
}

// Present gives the newest checkpoint, once it covers what is committed now. Where that
// takes too long, as when witnesses are away, the newest there is must do.
func (l *Log) Present(ctx context.Context) (Checkpoint, []byte, error) {
	tree, err := l.store.Tree(ctx)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	c, signed, err := l.Covering(ctx, tree.Head)
	if fault.Is(err, fault.CodeUnavailable) {
		return l.Newest(ctx)
	}
	return c, signed, err
}

// Inclusion is the proof that an event is in the tree of a checkpoint.
type Inclusion struct {
	LeafIndex, TreeSize int64
	Hashes              tlog.RecordProof
	// Checkpoint is the signed checkpoint.
	Checkpoint []byte
}

// Inclusion proves that the event of the sequence is in the log. An event that was just
// recorded is waited for; UNAVAILABLE says that no checkpoint covers it yet.
func (l *Log) Inclusion(ctx context.Context, sequence int64) (Inclusion, error) {
	c, signed, err := l.Covering(ctx, sequence)
	if err != nil {
		return Inclusion{}, err
	}
	hashes, err := tlog.ProveRecord(c.Size, sequence-1, c.reader(ctx, l.store))
	if err != nil {
		return Inclusion{}, fmt.Errorf("proving event %d: %w", sequence, err)
	}
	return Inclusion{LeafIndex: sequence - 1, TreeSize: c.Size, Hashes: hashes, Checkpoint: signed}, nil
}

// Consistency is the proof that the tree of one size grew from that of another.
type Consistency struct {
	From, To int64
	Hashes   tlog.TreeProof
}

// Consistency proves that the log only grew between two sizes; to is that of the newest
// checkpoint where it is negative. VALIDATION_ERROR where they are not sizes that the
// log has had, in order.
func (l *Log) Consistency(ctx context.Context, from, to int64) (Consistency, error) {
	newest, _, err := l.Newest(ctx)
	if err != nil {
		return Consistency{}, err
	}
	if to < 0 {
		to = newest.Size
	}
	switch {
	case to > newest.Size:
		return Consistency{}, fault.InvalidField("to", "maximum", fmt.Sprintf("must be at most %d, the size of the newest checkpoint", newest.Size))
	case from > to:
		return Consistency{}, fault.InvalidField("from", "maximum", "must not be larger than to")
	}
	newer, err := newest.at(ctx, l.store, to)
	if err != nil {
		return Consistency{}, err
	}
	hashes, err := consistency(ctx, l.store, newer, from)
	return Consistency{From: from, To: to, Hashes: hashes}, err
}

// Tile gives a tile of the published tree as C2SP tlog-tiles names it, or NOT_FOUND
// where the tree is not that large.
func (l *Log) Tile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	if err := l.holds(ctx, t); err != nil {
		return nil, err
	}
	data, err := tileReader{ctx, l.store}.ReadTiles([]tlog.Tile{t})
	if err != nil {
		return nil, err
	}
	return data[0], nil
}

// holds reports whether the published tree has the tile in that width.
func (l *Log) holds(ctx context.Context, t tlog.Tile) error {
	newest, _, err := l.Newest(ctx)
	if err != nil {
		return err
	}
	if last := t.N<<TileHeight + int64(t.W); last > newest.Size>>(TileHeight*max(t.L, 0)) {
		return fault.New(fault.NotFound, fault.CodeNotFound, "the log has no such tile yet")
	}
	return nil
}
