package stream_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/stream"
)

const secretText = "9f2c4e61b7a80d35c1f6e2947ab30d58"

// record is a log in memory with the positions of its streams, as a store keeps
// them.
type record struct {
	mu        sync.Mutex
	entries   []export.Entry
	positions map[string]int64
	// fail is what every call fails with while it is set.
	fail error
	// forgetful makes Advance fail after it wrote, as a commit whose answer is lost.
	forgetful error
}

func newRecord(n int) *record {
	r := &record{positions: map[string]int64{}}
	r.grow(n)
	return r
}

// event makes the nth event.
func event(n int64) audit.Event {
	e := audit.Origin{Actor: audit.Actor{Type: audit.TypeAgent, ID: "a"}, SourceIP: "192.0.2.7"}.
		Event(time.Unix(1_700_000_000+n, 0), uuid.New(), audit.TokenIssued, audit.Target{Type: audit.TypeToken, ID: fmt.Sprint("t", n)}).
		Because("line\nfeed ☃")
	if n%3 == 0 {
		e = e.Deny("no")
	}
	return e
}

func (r *record) grow(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range n {
		next := int64(len(r.entries)) + 1
		r.entries = append(r.entries, export.Entry{Sequence: next, Body: event(next).Encode()})
	}
}

func (r *record) breaks(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

func (r *record) Events(_ context.Context, after int64, limit int) ([]export.Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return nil, r.fail
	}
	var found []export.Entry
	for _, e := range r.entries {
		if e.Sequence > after && len(found) < limit {
			found = append(found, e)
		}
	}
	return found, nil
}

func (r *record) Newest(context.Context) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.entries) == 0 {
		return 0, r.fail
	}
	return r.entries[len(r.entries)-1].Sequence, r.fail
}

func (r *record) Position(_ context.Context, name string) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.positions[name], r.fail
}

func (r *record) Advance(ctx context.Context, name string, from, to int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil || ctx.Err() != nil {
		return fmt.Errorf("advancing: %w", r.fail)
	}
	if r.positions[name] != from || to <= from {
		return fault.New(fault.Conflict, fault.CodeConflict, "moved")
	}
	r.positions[name] = to
	return r.forgetful
}

func (r *record) at(name string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.positions[name]
}

// logged keeps what was logged.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

func (l *logged) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// pauses keeps how long a runner wanted to wait after what, and waits no longer
// than a moment.
type pauses struct {
	mu   sync.Mutex
	long []time.Duration
}

func (p *pauses) wait(ctx context.Context, d time.Duration) {
	p.mu.Lock()
	p.long = append(p.long, d)
	p.mu.Unlock()
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
	}
}

func (p *pauses) all() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.long)
}

func always() bool { return true }

// started is a runner that runs until it is stopped.
type started struct {
	*stream.Runner
	stop func()
}

// start runs a runner over the record; members of cfg that a test does not care for
// may be left out.
func start(t *testing.T, r *record, cfg stream.RunnerConfig) started {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "test"
	}
	if cfg.Source == nil {
		cfg.Source = r
	}
	cfg.Positions = r
	if cfg.Leader == nil {
		cfg.Leader = always
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Wait == nil {
		cfg.Wait = (&pauses{}).wait
	}
	runner := stream.NewRunner(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); runner.Run(ctx) }()
	stop := sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return started{runner, stop}
}

// patience is reached only where something hangs.
const patience = 30 * time.Second

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it never came", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func format(t *testing.T, name string) export.Format {
	t.Helper()
	f, err := export.New(name, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// lines is what events are as lines of JSON.
func lines(entries []export.Entry) []string {
	var all []string
	for _, e := range entries {
		b, err := export.AppendLine(nil, e)
		if err != nil {
			panic(err)
		}
		all = append(all, strings.TrimSuffix(string(b), "\n"))
	}
	return all
}

// wantDelivered checks that every event is there, the first time each in order.
func wantDelivered(t *testing.T, r *record, got []string) {
	t.Helper()
	seen := map[string]bool{}
	var once []string
	for _, line := range got {
		if !seen[line] {
			seen[line] = true
			once = append(once, line)
		}
	}
	if want := lines(r.entries); !slices.Equal(once, want) {
		t.Errorf("%d events were delivered, want %d in order;\n first %.2000v\n want %.2000v", len(once), len(want), once, want)
	}
}

// taker is a sink that takes batches, or does what next says first.
type taker struct {
	mu     sync.Mutex
	got    []string
	calls  int
	closed int
	next   func(call int, batch []export.Entry) error
}

func (k *taker) Deliver(_ context.Context, batch []export.Entry) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	if k.next != nil {
		if err := k.next(k.calls, batch); err != nil {
			return err
		}
	}
	k.got = append(k.got, lines(batch)...)
	return nil
}

func (k *taker) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed++
	return nil
}

func (k *taker) lines() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.got)
}
