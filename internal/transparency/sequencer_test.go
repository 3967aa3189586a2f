package transparency_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
	"git.sentryagent.ai/sentryagent-idp/internal/store/sqlite"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// plain seals nothing.
type plain struct{}

func (plain) Seal(_ string, data []byte) []byte { return data }

func (plain) Open(_ string, sealed []byte) ([]byte, bool, error) { return sealed, false, nil }

// moody is a store that can be told to fail, or to have lost an event.
type moody struct {
	*store.Store
	mu   sync.Mutex
	away bool
	lost int64
}

func (m *moody) set(away bool, lost int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away, m.lost = away, lost
}

func (m *moody) state() (away bool, lost int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.away, m.lost
}

func (m *moody) Tree(ctx context.Context) (transparency.Tree, error) {
	if away, _ := m.state(); away {
		return transparency.Tree{}, errors.New("the database is away")
	}
	return m.Store.Tree(ctx)
}

func (m *moody) Leaves(ctx context.Context, after int64, limit int) ([]tlog.Hash, error) {
	if _, lost := m.state(); lost > after {
		limit = int(lost - after - 1)
	}
	return m.Store.Leaves(ctx, after, limit)
}

// logs is safe for concurrent use.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

// bench is a log whose tree one node grows.
type bench struct {
	*testing.T
	store     *moody
	key       *transparency.Key
	logs      *logs
	sequencer *transparency.Sequencer
}

func newBench(t *testing.T, witnesses transparency.Witnesses) *bench {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, store: &moody{Store: s}, logs: &logs{}}
	if b.key, err = transparency.EnsureKey(t.Context(), s, plain{}, "log.example/audit"); err != nil {
		t.Fatal(err)
	}
	b.sequencer = transparency.NewSequencer(transparency.SequencerConfig{
		Store: b.store, Key: b.key, Witnesses: witnesses, Logger: slog.New(slog.NewTextHandler(b.logs, nil)), Now: time.Now,
		Poll: time.Millisecond, Patience: 50 * time.Millisecond, Renew: 10 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); b.sequencer.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done; _ = s.Close() })
	return b
}

// record appends events and gives the sequence of the last.
func (b *bench) record(n int) int64 {
	b.Helper()
	records := make([]audit.Record, n)
	for i := range records {
		records[i].Event = audit.System("test").Event(time.Now(), organization.DefaultID(), audit.KeyRotated, audit.Target{Type: audit.TypeKey, ID: "k"})
	}
	if _, err := b.store.AppendRecords(b.Context(), records); err != nil {
		b.Fatal(err)
	}
	tree, err := b.store.Store.Tree(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return tree.Head
}

// until asks again and again until what is asked is so.
func (b *bench) until(what string, so func(tree transparency.Tree) bool) {
	b.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); ; {
		tree, err := b.store.Store.Tree(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if so(tree) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			b.Fatalf("still not so: %s (size %d, published %d, head %d)", what, tree.Size, tree.PublishedSize, tree.Head)
		}
	}
}

// A hole stops the tree, health says so, and the log tells of it once; nothing that
// comes after the hole is signed.
func TestAnEventThatIsMissingStopsTheTree(t *testing.T) {
	b := newBench(t, nil)
	first := b.record(3)
	b.until("the tree covers the first events", func(tree transparency.Tree) bool { return tree.Size == first })
	b.store.set(false, first+2)
	last := b.record(4)
	b.until("the tree stands before the hole, and health and the log say so", func(tree transparency.Tree) bool {
		return tree.Size == first+1 && errors.Is(b.sequencer.Health(t.Context()), transparency.ErrGap) && b.logs.count("does not grow") > 0
	})
	b.store.set(false, 0) // it is found again
	b.until("the tree grows on, and health and the log say so", func(tree transparency.Tree) bool {
		return tree.Size == last && b.sequencer.Health(t.Context()) == nil && b.logs.count("grows again") > 0
	})
	if begun, over := b.logs.count("does not grow"), b.logs.count("grows again"); begun != 1 || over != 1 {
		t.Errorf("the log tells %d times of the hole, and %d times that it is gone", begun, over)
	}
}

func TestADatabaseThatIsAwayIsWaitedFor(t *testing.T) {
	b := newBench(t, nil)
	b.store.set(true, 0)
	b.until("health says that the tree does not grow", func(transparency.Tree) bool { return b.sequencer.Health(t.Context()) != nil })
	last := b.record(2)
	b.store.set(false, 0)
	b.until("the tree covers what was recorded meanwhile", func(tree transparency.Tree) bool { return tree.PublishedSize == last && b.sequencer.Leading() })
}

// Without events, too, somebody has the right to grow the tree: what else hangs on it
// goes on when a node dies.
func TestANodeThatDiesWhileNothingHappensIsReplaced(t *testing.T) {
	b := newBench(t, nil)
	last := b.record(3)
	var term int64
	b.until("the tree covers the events", func(tree transparency.Tree) bool { term = tree.Term; return tree.Size == last })
	b.until("the right is renewed", func(tree transparency.Tree) bool { return tree.Term > term+3 && b.sequencer.Leading() })
	b.until("a node took the right, which then dies", func(tree transparency.Tree) bool {
		return b.store.SeizeTree(t.Context(), tree.Term, "dead") == nil
	})
	b.until("it is replaced", func(tree transparency.Tree) bool { return tree.Holder != "dead" && b.sequencer.Leading() })
}

// panel is witnesses that sign, or do not.
type panel struct {
	mu     sync.Mutex
	refuse bool
	asked  []int64
}

func (p *panel) set(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

func (p *panel) Gather(ctx context.Context, signed []byte, prove transparency.Prove) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var size int64
	if _, err := fmt.Sscanf(strings.Split(string(signed), "\n")[1], "%d", &size); err != nil {
		return nil, err
	}
	if p.refuse {
		return nil, errors.New("no quorum")
	}
	for _, from := range p.asked { // what a witness would hold against it
		if from > 0 && from < size {
			if _, err := prove(ctx, from, size); err != nil {
				return nil, err
			}
		}
	}
	p.asked = append(p.asked, size)
	return append(signed, "— witness.example AAAAAAAAAA==\n"...), nil
}

// Nobody sees a checkpoint that the witnesses have not signed, and the tree grows on
// without them.
func TestWhatWitnessesDoNotSignIsNotPublished(t *testing.T) {
	witnesses := &panel{}
	b := newBench(t, witnesses)
	first := b.record(300)
	b.until("the witnesses signed", func(tree transparency.Tree) bool {
		return tree.PublishedSize == first && strings.Contains(string(tree.Published), "witness.example")
	})
	b.until("it is settled", func(transparency.Tree) bool { return b.sequencer.Settled() })
	witnesses.set(true)
	last := b.record(300)
	b.until("the tree has grown without them", func(tree transparency.Tree) bool { return tree.Size == last })
	b.until("that is told", func(transparency.Tree) bool { return b.logs.count("a checkpoint is not published") > 0 })
	b.until("it is not settled", func(transparency.Tree) bool { return !b.sequencer.Settled() })
	log := transparency.NewLog(b.store, b.key)
	if c, signed, err := log.Newest(t.Context()); err != nil || c.Size != first || !strings.Contains(string(signed), "witness.example") {
		t.Errorf("readers see the checkpoint of %d, %v; want that of %d", c.Size, err, first)
	}
	witnesses.set(false)
	b.until("they sign again", func(tree transparency.Tree) bool { return tree.PublishedSize == last && b.sequencer.Settled() })
}
