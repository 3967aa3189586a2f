package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

func treeTests() []test {
	return []test{
		{"the log's key is made once", treeKeyOnce},
		{"the right to grow the tree changes hands once a term", treeTerms},
		{"who has lost the right grows nothing", treeLost},
		{"leaves are hashes of the events, in order", treeLeaves},
		{"a tile is given as it is stored, or not at all", treeTiles},
		{"a published checkpoint is never an older one", treePublish},
		{"several nodes grow one tree", treeNodes},
		{"an event that was just recorded can be proven", treeProof},
		{"a node that has the right and does nothing loses it", treeSilent},
		{"what a node signed before it died another one publishes", treeUnpublished},
		{"witnesses that are away are missed once", treeWitnessesAway},
	}
}

// plain seals nothing.
type plain struct{}

func (plain) Seal(_ string, data []byte) []byte { return data }

func (plain) Open(_ string, sealed []byte) ([]byte, bool, error) { return sealed, false, nil }

func (b *bench) logKey() *transparency.Key {
	b.Helper()
	k, err := transparency.EnsureKey(b.Context(), b.store, plain{}, "suite.example/audit")
	b.must("making the log's key", err)
	return k
}

func (b *bench) tree() transparency.Tree {
	b.Helper()
	t, err := b.store.Tree(b.Context())
	b.must("reading the tree", err)
	return t
}

// sequencer runs one until the function it gives is called.
func (b *bench) sequencer(step int) (stop func()) {
	_, stop = b.witnessed(step, nil, slog.DiscardHandler)
	return stop
}

// witnessed is sequencer with witnesses.
func (b *bench) witnessed(step int, w transparency.Witnesses, log slog.Handler) (s *transparency.Sequencer, stop func()) {
	s = transparency.NewSequencer(transparency.SequencerConfig{
		Store: b.store, Key: b.logKey(), Witnesses: w, Logger: slog.New(log), Now: time.Now,
		Poll: 2 * time.Millisecond, Patience: 50 * time.Millisecond, Step: step,
	})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	return s, func() { cancel(); <-done }
}

// signed opens a checkpoint with the log's own key.
func (b *bench) signed(checkpoint []byte) transparency.Checkpoint {
	b.Helper()
	v, err := note.NewVerifier(b.logKey().Verifier())
	b.must("reading the log's key", err)
	c, err := transparency.Open(checkpoint, v)
	b.must("opening a checkpoint", err)
	return c
}

// wantWholeTree checks that the published tree is the one over all events.
func (b *bench) wantWholeTree() transparency.Checkpoint {
	b.Helper()
	events := b.wantDense()
	b.until("the tree", func() bool { return b.tree().PublishedSize >= int64(len(events)) })
	c, _, err := transparency.NewLog(b.store, b.logKey()).Newest(b.Context())
	b.must("reading the tree", err)
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (hashes []tlog.Hash, _ error) {
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	for i, e := range events {
		hashes, err := tlog.StoredHashes(int64(i), e.Encode(), reader)
		b.must("hashing", err)
		stored = append(stored, hashes...)
	}
	root, err := tlog.TreeHash(int64(len(events)), reader)
	b.must("hashing", err)
	if c.Size != int64(len(events)) || c.Root != root {
		b.Fatalf("the checkpoint tells of %d events and %s, there are %d with %s", c.Size, c.Root, len(events), root)
	}
	return c
}

func treeKeyOnce(b *bench) {
	keys := make(chan string, 8)
	var nodes sync.WaitGroup
	for range cap(keys) {
		nodes.Go(func() { keys <- b.logKey().Verifier() })
	}
	nodes.Wait()
	first := <-keys
	for range cap(keys) - 1 {
		if other := <-keys; other != first {
			b.Fatalf("two nodes have the keys %s and %s", first, other)
		}
	}
	again, err := transparency.EnsureKey(b.Context(), b.store, plain{}, "other.example/audit")
	if err != nil || again.Verifier() != first || again.Origin() != "suite.example/audit" {
		b.Errorf("under another name the log's key is %v, %v", again.Verifier(), err)
	}
	b.must("sealing anew", b.store.ResealLogKey(b.Context(), []byte("sealed anew")))
	k, err := b.store.EnsureLogKey(b.Context(), nil)
	if err != nil || string(k.Sealed) != "sealed anew" || k.Verifier != first {
		b.Errorf("sealed anew the key is %+v, %v", k, err)
	}
}

func treeTerms(b *bench) {
	ctx := b.Context()
	b.must("seizing", b.store.SeizeTree(ctx, 0, "a"))
	if err := b.store.SeizeTree(ctx, 0, "b"); !errors.Is(err, transparency.ErrLost) {
		b.Errorf("a second node seized the same term: %v", err)
	}
	if t := b.tree(); t.Term != 1 || t.Holder != "a" {
		b.Errorf("the tree stands at term %d of %q", t.Term, t.Holder)
	}
	if err := b.store.ReleaseTree(ctx, 1, "b"); !errors.Is(err, transparency.ErrLost) {
		b.Errorf("who has nothing gave it back: %v", err)
	}
	b.must("releasing", b.store.ReleaseTree(ctx, 1, "a"))
	if t := b.tree(); t.Holder != "" {
		b.Errorf("after it was given back the right is of %q", t.Holder)
	}
}

// grown is a step to a size that needs no new tile.
func grown(size int64) transparency.Growth {
	return transparency.Growth{Size: size, Checkpoint: []byte("signed"), Publish: &transparency.Publication{Size: size, Checkpoint: []byte("signed")}}
}

func treeLost(b *bench) {
	ctx := b.Context()
	b.must("seizing", b.store.SeizeTree(ctx, 0, "a"))
	as := b.tree()
	b.must("growing", b.store.GrowTree(ctx, as, grown(1)))
	for name, step := range map[string]transparency.Tree{
		"from a size that is past": as,
		"under a term that is past": {
			Size: 1, Term: 0, Holder: "a",
		},
		"as somebody else": {Size: 1, Term: 1, Holder: "b"},
	} {
		if err := b.store.GrowTree(ctx, step, grown(2)); !errors.Is(err, transparency.ErrLost) {
			b.Errorf("a step %s: %v", name, err)
		}
	}
	if t := b.tree(); t.Size != 1 || t.PublishedSize != 1 {
		b.Errorf("the tree stands at %d, published %d; want 1", t.Size, t.PublishedSize)
	}
}

func treeLeaves(b *bench) {
	b.create(b.draft())
	events := b.log()
	for after := range events {
		leaves, err := b.store.Leaves(b.Context(), int64(after), 2)
		b.must("reading leaves", err)
		want := events[after:min(after+2, len(events))]
		if len(leaves) != len(want) {
			b.Fatalf("after %d there are %d leaves, want %d", after, len(leaves), len(want))
		}
		for i, e := range want {
			if leaves[i] != tlog.RecordHash(e.Encode()) {
				b.Errorf("leaf %d is not the hash of its event", after+i)
			}
		}
	}
}

func treeTiles(b *bench) {
	ctx := b.Context()
	b.must("seizing", b.store.SeizeTree(ctx, 0, "a"))
	tile := func(level int, n int64, width int) (tlog.Tile, []byte) {
		return tlog.Tile{H: transparency.TileHeight, L: level, N: n, W: width}, bytes.Repeat(fmt.Appendf(nil, "%d%d", level, n), 16*width)
	}
	first, narrow := tile(0, 0, 2)
	other, above := tile(1, 0, 1)
	b.must("growing", b.store.GrowTree(ctx, b.tree(), transparency.Growth{
		Size: 1, Checkpoint: []byte("c"), Tiles: []tlog.Tile{first, other}, Data: [][]byte{narrow, above},
	}))
	_, wide := tile(0, 0, 256)
	b.must("growing", b.store.GrowTree(ctx, b.tree(), transparency.Growth{Size: 2, Checkpoint: []byte("c"), Tiles: []tlog.Tile{first}, Data: [][]byte{wide}}))
	missing, _ := tile(0, 7, 1)
	got, err := b.store.Tiles(ctx, []tlog.Tile{other, missing, first})
	b.must("reading tiles", err)
	if len(got) != 3 || !bytes.Equal(got[0], above) || got[1] != nil || !bytes.Equal(got[2], wide) {
		b.Errorf("the tiles read %x", got)
	}
	forged := bytes.Clone(wide)
	forged[0]++
	for name, data := range map[string][]byte{"another": forged, "a narrower": narrow} {
		err := b.store.GrowTree(ctx, b.tree(), transparency.Growth{Size: 3, Checkpoint: []byte("c"), Tiles: []tlog.Tile{first}, Data: [][]byte{data}})
		if err == nil || b.tree().Size != 2 {
			b.Errorf("a tile became %s one: %v", name, err)
		}
	}
}

func treePublish(b *bench) {
	ctx := b.Context()
	b.must("seizing", b.store.SeizeTree(ctx, 0, "a"))
	b.must("growing", b.store.GrowTree(ctx, b.tree(), transparency.Growth{Size: 9, Checkpoint: []byte("nine")}))
	if t := b.tree(); t.Published != nil || string(t.Checkpoint) != "nine" {
		b.Errorf("before anybody published it, readers see %q", t.Published)
	}
	for _, p := range []transparency.Publication{
		{Size: 7, Checkpoint: []byte("seven"), Remember: true, At: b.now()},
		{Size: 9, Checkpoint: []byte("nine"), Remember: true, At: b.now()},
		{Size: 8, Checkpoint: []byte("eight"), Remember: true, At: b.now()},
	} {
		b.must("publishing", b.store.PublishCheckpoint(ctx, p))
	}
	if t := b.tree(); t.PublishedSize != 9 || string(t.Published) != "nine" {
		b.Errorf("readers see %q of size %d", t.Published, t.PublishedSize)
	}
}
