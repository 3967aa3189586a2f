package audit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

// ErrStale says that what a record rested on had changed by the time of its
// commit: nothing was written, and the decision must be made again on fresh
// data.
var ErrStale = errors.New("the decision rested on a state that has changed")

// Basis is the state of the registry a decision was made on. The transaction
// that records the decision checks that it still holds.
type Basis struct {
	// Counter is the change counter at which both rows were known to hold.
	Counter            int64
	AgentID            uuid.UUID
	AgentRevision      int64
	CredentialID       uuid.UUID
	CredentialRevision int64
	// Noted says that the use of the credential was noted a moment ago, and this one
	// need not be.
	Noted bool
}

// Record is an event on its way to the log.
type Record struct {
	Event Event
	// Basis is what must still hold at commit; nil where the event rests on
	// nothing. A successful record with a Basis also marks the credential as used at
	// the event's time, unless that was Noted.
	Basis *Basis
}

// Batch says what became of the records of one transaction.
type Batch struct {
	// Stale holds the indexes of the records whose basis no longer held.
	Stale map[int]bool
	// Counter is the change counter read in the transaction.
	Counter int64
}

// Store keeps the events.
type Store interface {
	// AppendRecords writes the records in one durable transaction, in order, but
	// those whose basis no longer holds. On an error none is known to be written.
	AppendRecords(ctx context.Context, records []Record) (Batch, error)
	// Event gives one event of the organization, or a NOT_FOUND fault.
	Event(ctx context.Context, organization, id uuid.UUID) (Event, error)
	// Events lists an organization's events, newest first.
	Events(ctx context.Context, organization uuid.UUID, f Filter, q page.Query) (page.Page[Event], error)
	// StoredEvents gives the events of a part of the log as they are stored, in order.
	// One whose body was dropped is left out.
	StoredEvents(ctx context.Context, p Part) ([]Stored, error)
}

// Stored is an event as it is kept: its place in the log and its canonical bytes.
type Stored struct {
	Sequence int64
	Body     []byte
}

// Part is a part of the log.
type Part struct {
	// Organization is whose events are meant, uuid.Nil for those of all.
	Organization uuid.UUID
	// After and UpTo bound the sequence: after the one, up to and with the other.
	After, UpTo int64
	// From and To bound the time: at the one or later, before the other. Zero times do
	// not bound it.
	From, To time.Time
}

// Filter narrows a list of events; zero members do not narrow.
type Filter struct {
	AgentID  uuid.UUID
	ActorID  string
	Action   Action
	Outcome  Outcome
	From, To time.Time
}

// Config sets the bounds of a Log.
type Config struct {
	// Queue is how many records may wait; one more is refused (UNAVAILABLE).
	Queue int
	// Batch is how many records one transaction takes.
	Batch int
	// Linger is how long the committer waits for requests known to be on their
	// way before it commits without them.
	Linger time.Duration
	// Timeout bounds one transaction.
	Timeout time.Duration
}

// Log takes records to the store in groups. Start it with Run.
type Log struct {
	store    Store
	cfg      Config
	queue    chan *Pending
	expected atomic.Int64
	idle     chan struct{} // says that nobody is expected any more
	mu       sync.RWMutex
	closed   bool
}

// Pending is a record that waits to be committed.
type Pending struct {
	record  Record
	done    chan struct{}
	counter int64
	err     error
}

// NewLog makes a log over the store. Zero members of cfg get defaults.
func NewLog(store Store, cfg Config) *Log {
	if cfg.Queue == 0 {
		cfg.Queue = 4096
	}
	if cfg.Batch == 0 {
		cfg.Batch = 512
	}
	if cfg.Linger == 0 {
		cfg.Linger = 1500 * time.Microsecond
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	return &Log{store: store, cfg: cfg, queue: make(chan *Pending, cfg.Queue), idle: make(chan struct{}, 1)}
}

// Announce tells the committer that a record is on its way, so that it may wait
// for it a moment. The function it returns must be called when the record has
// been submitted or will not come; calling it again does nothing.
func (l *Log) Announce() (arrived func()) {
	l.expected.Add(1)
	var done atomic.Bool
	return func() {
		if done.Swap(true) || l.expected.Add(-1) > 0 {
			return
		}
		select {
		case l.idle <- struct{}{}:
		default:
		}
	}
}

// Submit queues a record and returns at once, so that the caller can work while
// it is committed. It fails with UNAVAILABLE when the queue is full or the log
// is closing.
func (l *Log) Submit(r Record) (*Pending, error) {
	p := &Pending{record: r, done: make(chan struct{})}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, fault.UnavailableBecause(errors.New("the audit log is closing"))
	}
	select {
	case l.queue <- p:
		return p, nil
	default:
		return nil, fault.UnavailableBecause(errors.New("the audit queue is full"))
	}
}

// Wait blocks until the record is durable and gives the change counter at which
// its basis was found to hold. It fails with ErrStale, with UNAVAILABLE where
// the store failed, or with ctx's error; then the event may still be written.
func (p *Pending) Wait(ctx context.Context) (counter int64, err error) {
	select {
	case <-p.done:
		return p.counter, p.err
	case <-ctx.Done():
		return 0, fault.UnavailableBecause(context.Cause(ctx))
	}
}

// Append records one event and waits until it is durable.
func (l *Log) Append(ctx context.Context, e Event) error {
	p, err := l.Submit(Record{Event: e})
	if err != nil {
		return err
	}
	_, err = p.Wait(ctx)
	return err
}

// paceAgain is how soon Pace looks again.
const paceAgain = 2 * time.Millisecond

// Pace waits while more than a quarter of the queue is taken: work in bulk that does not go
// through the queue gives way to those who wait for their record. It fails with
// UNAVAILABLE when ctx ends first.
func (l *Log) Pace(ctx context.Context) error {
	for len(l.queue) > cap(l.queue)/4 {
		select {
		case <-time.After(paceAgain):
		case <-ctx.Done():
			return fault.UnavailableBecause(context.Cause(ctx))
		}
	}
	return nil
}

// Event gives one event of the organization, or a NOT_FOUND fault.
func (l *Log) Event(ctx context.Context, organization, id uuid.UUID) (Event, error) {
	return l.store.Event(ctx, organization, id)
}

// Events lists an organization's events, newest first.
func (l *Log) Events(ctx context.Context, organization uuid.UUID, f Filter, q page.Query) (page.Page[Event], error) {
	return l.store.Events(ctx, organization, f, q)
}

// Stored gives the events of a part of the log as they are stored, in order.
func (l *Log) Stored(ctx context.Context, p Part) ([]Stored, error) {
	return l.store.StoredEvents(ctx, p)
}

// Run commits until Close is called and everything queued has been committed.
func (l *Log) Run() {
	for first := range l.queue {
		l.commit(l.gather(first))
	}
}

// Close refuses new records and lets Run finish those that wait.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.queue)
	}
}

// gather takes what waits, and lingers only while somebody is on the way: a
// lone caller pays no delay, and a crowd shares one transaction.
func (l *Log) gather(first *Pending) []*Pending {
	batch := []*Pending{first}
	var linger <-chan time.Time
	for len(batch) < l.cfg.Batch {
		select {
		case p, ok := <-l.queue:
			if !ok {
				return batch
			}
			batch = append(batch, p)
			continue
		default:
		}
		if l.expected.Load() == 0 {
			return batch
		}
		if linger == nil {
			timer := time.NewTimer(l.cfg.Linger)
			defer timer.Stop()
			linger = timer.C
		}
		select {
		case p, ok := <-l.queue:
			if !ok {
				return batch
			}
			batch = append(batch, p)
		case <-l.idle: // look again
		case <-linger:
			return batch
		}
	}
	return batch
}

func (l *Log) commit(batch []*Pending) {
	records := make([]Record, len(batch))
	for i, p := range batch {
		records[i] = p.record
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.cfg.Timeout)
	defer cancel()
	done, err := l.store.AppendRecords(ctx, records)
	for i, p := range batch {
		switch {
		case err != nil:
			p.err = fault.UnavailableBecause(err)
		case done.Stale[i]:
			p.err = ErrStale
		default:
			p.counter = done.Counter
		}
		close(p.done)
	}
}
