package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

// fakeStore keeps batches in memory; each call waits for gate where it is set.
type fakeStore struct {
	mu      sync.Mutex
	batches [][]audit.Record
	gate    chan struct{}
	err     error
	stale   map[int]bool
}

func (f *fakeStore) AppendRecords(_ context.Context, records []audit.Record) (audit.Batch, error) {
	if f.gate != nil {
		<-f.gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return audit.Batch{}, f.err
	}
	f.batches = append(f.batches, records)
	return audit.Batch{Stale: f.stale, Counter: 7}, nil
}

func (f *fakeStore) Event(context.Context, uuid.UUID, uuid.UUID) (audit.Event, error) {
	return audit.Event{}, errors.New("not asked for here")
}

func (f *fakeStore) Events(context.Context, uuid.UUID, audit.Filter, page.Query) (page.Page[audit.Event], error) {
	return page.Page[audit.Event]{}, errors.New("not asked for here")
}

func (f *fakeStore) StoredEvents(context.Context, audit.Part) ([]audit.Stored, error) {
	return nil, errors.New("not asked for here")
}

func event(reason string) audit.Event {
	return audit.System("test").Event(time.Now(), uuid.New(), audit.TokenIssued, audit.Target{Type: audit.TypeToken, ID: "t"}).Because(reason)
}

func running(t *testing.T, s *fakeStore, cfg audit.Config) *audit.Log {
	t.Helper()
	l := audit.NewLog(s, cfg)
	done := make(chan struct{})
	go func() { defer close(done); l.Run() }()
	t.Cleanup(func() { l.Close(); <-done })
	return l
}

func TestRecordsThatWaitShareATransaction(t *testing.T) {
	s := &fakeStore{gate: make(chan struct{})}
	l := running(t, s, audit.Config{})
	const n = 64
	pending := make([]*audit.Pending, n)
	for i := range pending {
		p, err := l.Submit(audit.Record{Event: event("")})
		if err != nil {
			t.Fatal(err)
		}
		pending[i] = p
	}
	close(s.gate)
	for _, p := range pending {
		if counter, err := p.Wait(t.Context()); err != nil || counter != 7 {
			t.Fatalf("Wait = %d, %v; want the transaction's counter", counter, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.batches) > 2 {
		t.Errorf("%d records took %d transactions, want 2 at most", n, len(s.batches))
	}
}

func TestAFailedCommitIsNobodysSuccess(t *testing.T) {
	s := &fakeStore{err: errors.New("disk full")}
	l := running(t, s, audit.Config{})
	if err := l.Append(t.Context(), event("")); !fault.Is(err, fault.CodeUnavailable) {
		t.Errorf("Append = %v, want UNAVAILABLE", err)
	}
}

func TestAStaleRecordIsToldApart(t *testing.T) {
	s := &fakeStore{stale: map[int]bool{0: true}}
	l := running(t, s, audit.Config{})
	if err := l.Append(t.Context(), event("")); !errors.Is(err, audit.ErrStale) {
		t.Errorf("Append = %v, want ErrStale", err)
	}
}

func TestAFullQueueRefusesAtOnce(t *testing.T) {
	l := audit.NewLog(&fakeStore{}, audit.Config{Queue: 1}) // nobody runs it
	if _, err := l.Submit(audit.Record{Event: event("")}); err != nil {
		t.Fatal(err)
	}
	_, err := l.Submit(audit.Record{Event: event("")})
	if f := fault.As(err); f == nil || f.Kind != fault.Unavailable || f.RetryAfter <= 0 {
		t.Errorf("Submit = %v, want UNAVAILABLE with a time to retry after", err)
	}
}

// TestWorkInBulkGivesWay: it goes on when those who waited have been served.
func TestWorkInBulkGivesWay(t *testing.T) {
	s := &fakeStore{}
	l := audit.NewLog(s, audit.Config{Queue: 8})
	for range 3 {
		if _, err := l.Submit(audit.Record{Event: event("")}); err != nil {
			t.Fatal(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Pace(ended); !fault.Is(err, fault.CodeUnavailable) {
		t.Errorf("past three who wait of eight: %v", err)
	}
	paced := make(chan error, 1)
	go func() { paced <- l.Pace(t.Context()) }()
	done := make(chan struct{})
	go func() { defer close(done); l.Run() }()
	t.Cleanup(func() { l.Close(); <-done })
	if err := <-paced; err != nil {
		t.Error(err)
	}
}

func TestCloseCommitsWhatWaits(t *testing.T) {
	s := &fakeStore{}
	l := audit.NewLog(s, audit.Config{})
	p, err := l.Submit(audit.Record{Event: event("")})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	l.Run()
	if _, err := p.Wait(t.Context()); err != nil {
		t.Errorf("a record queued before Close was lost: %v", err)
	}
	if _, err := l.Submit(audit.Record{Event: event("")}); !fault.Is(err, fault.CodeUnavailable) {
		t.Errorf("Submit after Close = %v, want UNAVAILABLE", err)
	}
}

func TestEventSurvivesItsBytes(t *testing.T) {
	agentID := uuid.New()
	want := audit.Origin{Actor: audit.Actor{Type: audit.TypeAgent, ID: agentID.String()}, RequestID: "r\"1", SourceIP: "192.0.2.1"}.
		Event(time.Now(), uuid.New(), audit.AgentSuspended, audit.Target{Type: audit.TypeAgent, ID: "x"}).
		About(agentID).Because("odd \x01 \u2028 \xff \\ text").
		With(audit.Details{}.String("a", "b").Int("n", -3).Strings("l", []string{"x", "é"}).Bool("t", true).Time("at", time.Now()))
	body := want.Encode()
	if !json.Valid(body) {
		t.Fatalf("not JSON: %s", body)
	}
	got, err := audit.Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	if again := got.Encode(); string(again) != string(body) && want.Reason == got.Reason {
		t.Errorf("the bytes changed on the way:\n%s\n%s", body, again)
	}
	if got.ID != want.ID || !got.Time.Equal(want.Time) || got.AgentID != agentID || got.Actor != want.Actor || got.RequestID != want.RequestID {
		t.Errorf("Decode = %+v, want %+v", got, want)
	}
	if _, err := audit.Decode([]byte(`{"v":2,"details":{}}`)); err == nil {
		t.Error("an unknown version was decoded")
	}
}

func TestIDsCarryMicroseconds(t *testing.T) {
	at := time.UnixMicro(1_700_000_000_123_999).UTC()
	id := audit.NewID(at)
	if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
		t.Errorf("%s is of version %d, variant %s", id, id.Version(), id.Variant())
	}
	if got := audit.TimeOf(id); !got.Equal(at) {
		t.Errorf("TimeOf = %s, want %s", got, at)
	}
	if later := audit.NewID(at.Add(time.Microsecond)); later.String() <= id.String() {
		t.Errorf("%s made a microsecond later sorts before %s", later, id)
	}
}

// TestNobodyLeftToWaitForEndsTheWait: when the last announced neighbour leaves, the
// committer commits at once, however long it might linger.
func TestNobodyLeftToWaitForEndsTheWait(t *testing.T) {
	s := &fakeStore{}
	l := running(t, s, audit.Config{Linger: time.Hour})
	arrived := l.Announce()
	p, err := l.Submit(audit.Record{Event: event("")})
	if err != nil {
		t.Fatal(err)
	}
	arrived()
	if _, err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}
