package storetest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

func treeNodes(b *bench) {
	const writers, batches, width = 4, 20, 25
	var stops []func()
	for i := range 3 {
		stops = append(stops, b.sequencer(100+i))
	}
	// Every checkpoint that anybody saw is one of one growing log.
	var seen []transparency.Checkpoint
	watching, quit := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watching)
		for {
			if t, err := b.store.Tree(b.Context()); err == nil && t.Published != nil {
				if c := b.signed(t.Published); len(seen) == 0 || seen[len(seen)-1] != c {
					seen = append(seen, c)
				}
			}
			select {
			case <-quit:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for range batches {
				records := make([]audit.Record, width)
				for i := range records {
					records[i].Event = audit.System("suite").Event(time.Now(), b.org, audit.TokenDenied, audit.Target{Type: audit.TypeAgent, ID: "x"})
				}
				if _, err := b.store.AppendRecords(b.Context(), records); err != nil {
					b.Errorf("appending: %v", err)
				}
			}
		})
	}
	writing.Wait()
	last := b.wantWholeTree()
	close(quit)
	<-watching
	for _, stop := range stops {
		stop()
	}
	log := transparency.NewLog(b.store, b.logKey())
	for _, c := range seen {
		p, err := log.Consistency(b.Context(), c.Size, last.Size)
		b.must("proving consistency", err)
		if c.Size > 0 && c != last && tlog.CheckTree(p.Hashes, last.Size, last.Root, c.Size, c.Root) != nil {
			b.Errorf("the checkpoint of %d events contradicts that of %d", c.Size, last.Size)
		}
	}
	if t := b.tree(); t.Holder != "" {
		b.Errorf("after all have left the right is of %q", t.Holder)
	}
}

func treeProof(b *bench) {
	stop := b.sequencer(0)
	defer stop()
	b.create(b.draft())
	log := transparency.NewLog(b.store, b.logKey())
	for _, e := range b.log() {
		p, err := log.Inclusion(b.Context(), e.Sequence)
		b.must("proving an event", err)
		c := b.signed(p.Checkpoint)
		if p.TreeSize != c.Size || p.LeafIndex != e.Sequence-1 || tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.LeafIndex, tlog.RecordHash(e.Encode())) != nil {
			b.Errorf("event %d is not proven by %+v", e.Sequence, p)
		}
	}
	size := b.wantWholeTree().Size
	for _, wrong := range [][2]int64{{0, size + 1}, {size + 1, -1}, {2, 1}} {
		if _, err := log.Consistency(b.Context(), wrong[0], wrong[1]); !fault.Is(err, fault.CodeValidation) {
			b.Errorf("a proof from %d to %d: %v", wrong[0], wrong[1], err)
		}
	}
	for _, t := range []tlog.Tile{{L: 0, N: 0, W: int(size) + 1}, {L: 0, N: 1, W: 1}, {L: 1, N: 0, W: 1}, {L: 7, N: 1 << 40, W: 256}} {
		t.H = transparency.TileHeight
		if _, err := log.Tile(b.Context(), t); !fault.Is(err, fault.CodeNotFound) {
			b.Errorf("the tile %s: %v", t.Path(), err)
		}
	}
	data, err := log.Tile(b.Context(), tlog.Tile{H: transparency.TileHeight, W: 1})
	if first := tlog.RecordHash(b.log()[0].Encode()); err != nil || !bytes.Equal(data, first[:]) {
		b.Errorf("the first tile is %x, %v", data, err)
	}
}

func treeSilent(b *bench) {
	b.must("seizing", b.store.SeizeTree(b.Context(), 0, uuid.NewString())) // and then it dies
	stop := b.sequencer(0)
	defer stop()
	b.create(b.draft())
	b.wantWholeTree()
	if t := b.tree(); t.Term != 2 {
		b.Errorf("the tree grew under term %d, want 2", t.Term)
	}
}

// fickle witnesses sign while they are there.
type fickle struct {
	there atomic.Bool
	asked atomic.Int64
}

// Gather gives the checkpoint as it is: who signs it is not looked at here.
func (f *fickle) Gather(_ context.Context, signed []byte, _ transparency.Prove) ([]byte, error) {
	f.asked.Add(1)
	if !f.there.Load() {
		return nil, errors.New("the witnesses are away")
	}
	return signed, nil
}

// until polls for what another goroutine brings about.
func (b *bench) until(what string, done func() bool) {
	b.Helper()
	deadline := time.Now().Add(time.Minute)
	for !done() {
		if time.Now().After(deadline) {
			b.Fatalf("waiting for %s: still not there after a minute", what)
		}
		<-time.After(time.Millisecond)
	}
}

// covered reports whether the tree has every event.
func (b *bench) covered() bool {
	t := b.tree()
	return t.Head > 0 && t.Size == t.Head
}

func treeUnpublished(b *bench) {
	w := &fickle{}
	b.create(b.draft())
	_, stop := b.witnessed(0, w, slog.DiscardHandler)
	b.until("a tree of all events", b.covered)
	stop()
	t := b.tree()
	if t.Published != nil {
		b.Fatal("it was published though nobody signed")
	}
	dead := uuid.NewString()
	b.must("seizing", b.store.SeizeTree(b.Context(), t.Term, dead)) // and then it dies
	w.there.Store(true)
	_, stop = b.witnessed(0, w, slog.DiscardHandler)
	defer stop()
	b.until("its publication", func() bool { return b.tree().PublishedSize == t.Size })
	b.wantWholeTree()
}

func treeWitnessesAway(b *bench) {
	w, log := &fickle{}, &notes{}
	b.create(b.draft())
	s, stop := b.witnessed(0, w, log)
	defer stop()
	b.until("the witnesses to be asked some times", func() bool { return w.asked.Load() > 5 })
	if n := log.count("a checkpoint is not published"); n != 1 {
		b.Errorf("that they are away is logged %d times", n)
	}
	if err := s.Health(b.Context()); err == nil {
		b.Error("nothing is wrong, it says")
	}
	w.there.Store(true)
	b.until("a publication", func() bool { return log.count("checkpoints are published again") == 1 })
	if err := s.Health(b.Context()); err != nil {
		b.Errorf("with the witnesses back it says: %v", err)
	}
}

// notes counts what is logged, by its text.
type notes struct {
	slog.Handler
	mu    sync.Mutex
	texts map[string]int
}

// Enabled lets everything through.
func (n *notes) Enabled(context.Context, slog.Level) bool { return true }

// Handle counts.
func (n *notes) Handle(_ context.Context, r slog.Record) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.texts == nil {
		n.texts = map[string]int{}
	}
	n.texts[r.Message]++
	return nil
}

func (n *notes) count(text string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.texts[text]
}
