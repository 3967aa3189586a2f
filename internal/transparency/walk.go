package transparency

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Events reads events as they are stored.
type Events interface {
	// Stored gives the events of a part of the log, in order.
	Stored(ctx context.Context, r audit.Part) ([]audit.Stored, error)
}

// Visitor is shown the log from its beginning: every leaf once, as an event or as a part
// of a subtree, and checkpoints of all that came before. An error of it ends the walk.
type Visitor interface {
	Event(e audit.Stored, leaf tlog.Hash) error
	// Subtree stands for the events of the leaf indexes from (included) to (excluded).
	Subtree(from, to int64, root tlog.Hash) error
	Checkpoint(signed []byte) error
}

// chunk is how many leaves are looked at in one go.
const chunk = 8 << TileHeight

// Walk shows the visitor the events of a range, up to now, with all that proves them;
// UpTo is not looked at. What is not in the range, and what was dropped, is shown as
// subtrees. Where an event is dropped while the walk is on, the walk goes as far as the
// event that tells of it.
func (l *Log) Walk(ctx context.Context, events Events, r audit.Part, v Visitor) error {
	c, signed, err := l.Present(ctx)
	if err != nil {
		return err
	}
	w := &walk{log: l, events: events, wanted: r, visitor: v}
	if err := w.until(ctx, c, signed); err != nil {
		return err
	}
	// What had been dropped by the time it was looked for was told of by now.
	now, signed, err := l.Present(ctx)
	if err != nil || now.Size == c.Size {
		return err
	}
	return w.until(ctx, now, signed)
}

// walk is how far one has come.
type walk struct {
	log     *Log
	events  Events
	wanted  audit.Part
	visitor Visitor
	// at is the next leaf to look at, and shown the first that was not shown.
	at, shown int64
}

// until shows all that the checkpoint covers, and the checkpoint.
func (w *walk) until(ctx context.Context, c Checkpoint, signed []byte) error {
	tiles := &cachedTiles{TileStore: w.log.store, known: map[place][]byte{}}
	for w.at < c.Size {
		end := min(w.at-w.at%chunk+chunk, c.Size)
		kept, err := w.log.store.Checkpoints(ctx, w.at, end)
		if err != nil {
			return err
		}
		older := len(kept) > 0 && kept[0].Size < c.Size
		if older {
			end = kept[0].Size
		}
		if err := w.part(ctx, c, tiles, end); err != nil {
			return err
		}
		if !older {
			continue
		}
		if err := w.hide(ctx, c, tiles, end); err != nil {
			return err
		}
		if err := w.visitor.Checkpoint(kept[0].Checkpoint); err != nil {
			return err
		}
	}
	if err := w.hide(ctx, c, tiles, c.Size); err != nil {
		return err
	}
	return w.visitor.Checkpoint(signed)
}

// part shows the events up to the leaf index end.
func (w *walk) part(ctx context.Context, c Checkpoint, tiles TileStore, end int64) error {
	r := w.wanted
	r.After, r.UpTo = max(r.After, w.at), end
	w.at = end
	if r.After >= end {
		return nil
	}
	events, err := w.events.Stored(ctx, r)
	if err != nil || len(events) == 0 {
		return err
	}
	indexes := make([]int64, len(events))
	for i, e := range events {
		indexes[i] = tlog.StoredHashIndex(0, e.Sequence-1)
	}
	leaves, err := c.reader(ctx, tiles).ReadHashes(indexes)
	if err != nil {
		return fmt.Errorf("reading leaves of the record's tree: %w", err)
	}
	for i, e := range events {
		if err := w.hide(ctx, c, tiles, e.Sequence-1); err != nil {
			return err
		}
		if err := w.visitor.Event(e, leaves[i]); err != nil {
			return err
		}
		w.shown = e.Sequence
	}
	return nil
}

// hide shows the leaves before the index end that were not shown as the fewest complete
// subtrees.
func (w *walk) hide(ctx context.Context, c Checkpoint, tiles TileStore, end int64) error {
	var indexes, ends []int64
	for from := w.shown; from < end; {
		level := bits.Len64(uint64(end-from)) - 1 //nolint:gosec // it is positive
		if from > 0 {
			level = min(level, bits.TrailingZeros64(uint64(from)))
		}
		indexes = append(indexes, tlog.StoredHashIndex(level, from>>level))
		from += 1 << level
		ends = append(ends, from)
	}
	if len(indexes) == 0 {
		return nil
	}
	roots, err := c.reader(ctx, tiles).ReadHashes(indexes)
	if err != nil {
		return fmt.Errorf("reading subtrees of the record's tree: %w", err)
	}
	for i, to := range ends {
		if err := w.visitor.Subtree(w.shown, to, roots[i]); err != nil {
			return err
		}
		w.shown = to
	}
	return nil
}

// cachedTiles remembers the tiles that were read last.
type cachedTiles struct {
	TileStore
	known map[place][]byte
}

// maxKnown bounds them, to 4 MiB.
const maxKnown = 512

// Tiles gives what is stored of tiles, as far as a walk needs it.
func (k *cachedTiles) Tiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	var missing []tlog.Tile
	for _, t := range tiles {
		if len(k.known[place{t.L, t.N}]) < t.W*tlog.HashSize {
			missing = append(missing, t)
		}
	}
	if len(missing) > 0 {
		if len(k.known)+len(missing) > maxKnown {
			clear(k.known)
			missing = tiles
		}
		data, err := k.TileStore.Tiles(ctx, missing)
		if err != nil {
			return nil, err
		}
		for i, t := range missing {
			k.known[place{t.L, t.N}] = data[i]
		}
	}
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		data[i] = k.known[place{t.L, t.N}]
	}
	return data, nil
}

// Bundle gives the bodies of up to 256 events as C2SP tlog-tiles has them, each after
// its length in two bytes, big-endian. NOT_FOUND where the tree is not that large, or
// where one of them was dropped.
func (l *Log) Bundle(ctx context.Context, events Events, t tlog.Tile) ([]byte, error) {
	t.L = 0
	if err := l.holds(ctx, t); err != nil {
		return nil, err
	}
	first := t.N << TileHeight
	stored, err := events.Stored(ctx, audit.Part{Organization: uuid.Nil, After: first, UpTo: first + int64(t.W)})
	if err != nil {
		return nil, err
	}
	if len(stored) < t.W {
		return nil, fault.New(fault.NotFound, fault.CodeNotFound, "events of this bundle were dropped after their retention")
	}
	var b []byte
	for _, e := range stored {
		if len(e.Body) > math.MaxUint16 {
			return nil, fmt.Errorf("event %d is too long for a bundle", e.Sequence)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(e.Body))) //nolint:gosec // see above
		b = append(b, e.Body...)
	}
	return b, nil
}
