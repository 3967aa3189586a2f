package token

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// ErrNoEntry says that there is no such credential.
var ErrNoEntry = errors.New("no such credential")

// Entry is a credential with its agent, read together. It is shared between
// requests and never changed but for the counter.
type Entry struct {
	Agent      agent.Agent
	Credential credential.Credential
	// AgentID, OrganizationID and CredentialID are their ids as text, which every token
	// needs several times.
	AgentID, OrganizationID, CredentialID string
	// counter is the change counter at which both were last known to hold.
	counter atomic.Int64
	// used is when its use was last noted, in microseconds since 1970.
	used atomic.Int64
}

// NewEntry makes an entry of rows that were read at the change counter, without the
// agent's metadata, which no token needs and which may be large.
func NewEntry(a agent.Agent, c credential.Credential, counter int64) *Entry {
	a.Metadata = nil
	e := &Entry{Agent: a, Credential: c, AgentID: a.ID.String(), OrganizationID: a.OrganizationID.String(), CredentialID: c.ID.String()}
	e.counter.Store(counter)
	return e
}

// basis is what a decision made on the entry at the time rests on.
func (e *Entry) basis(now time.Time) *audit.Basis {
	return &audit.Basis{
		Counter: e.counter.Load(), AgentID: e.Agent.ID, AgentRevision: e.Agent.Revision,
		CredentialID: e.Credential.ID, CredentialRevision: e.Credential.Revision,
		Noted: now.UnixMicro()-e.used.Load() < noteEvery.Microseconds(),
	}
}

// noteEvery is how exactly the last use of a credential is known. To write it down for
// every token took a tenth of what a token costs.
const noteEvery = time.Second

// usedAt notes that a transaction noted the use of the credential, or one a moment
// before it.
func (e *Entry) usedAt(now time.Time) {
	if at := now.UnixMicro(); at-e.used.Load() >= noteEvery.Microseconds() {
		e.used.Store(at)
	}
}

// heldAt notes that a transaction found the entry to hold at the counter.
func (e *Entry) heldAt(counter int64) {
	for old := e.counter.Load(); old < counter && !e.counter.CompareAndSwap(old, counter); {
		old = e.counter.Load()
	}
}

// Source reads the registry.
type Source interface {
	// EntryByKeyID gives the credential whose secret carries the key id, or ErrNoEntry.
	EntryByKeyID(ctx context.Context, keyID string) (*Entry, error)
	// EntryByCredential gives the credential of that id, or ErrNoEntry.
	EntryByCredential(ctx context.Context, id uuid.UUID) (*Entry, error)
	// Counter reads the change counter, which every change of an agent, a
	// credential or a revocation raises in its own transaction.
	Counter(ctx context.Context) (int64, error)
}

// Directory is a bounded cache of entries before a Source.
type Directory struct {
	source       Source
	byKeyID      *otter.Cache[string, *Entry]
	byCredential *otter.Cache[uuid.UUID, *Entry]
	counter      sharedRead
	tally        tally
}

// NewDirectory makes a directory that keeps at most size entries of each kind.
func NewDirectory(source Source, size int) (*Directory, error) {
	byKeyID, err := otter.New(&otter.Options[string, *Entry]{MaximumSize: size})
	if err != nil {
		return nil, err
	}
	byCredential, err := otter.New(&otter.Options[uuid.UUID, *Entry]{MaximumSize: size})
	if err != nil {
		return nil, err
	}
	return &Directory{source: source, byKeyID: byKeyID, byCredential: byCredential, counter: sharedRead{read: source.Counter}}, nil
}

// Cached gives the entry of a key id as it is remembered, or reads it. It may be
// out of date: what is decided on it is checked when it is committed.
func (d *Directory) Cached(ctx context.Context, keyID string) (e *Entry, fresh bool, err error) {
	e, ok := d.byKeyID.GetIfPresent(keyID)
	if d.tally.note(ok) {
		return e, false, nil
	}
	e, err = d.Read(ctx, keyID)
	return e, true, err
}

// Read reads the entry of a key id afresh.
func (d *Directory) Read(ctx context.Context, keyID string) (*Entry, error) {
	e, err := d.source.EntryByKeyID(ctx, keyID)
	if err != nil {
		return nil, err
	}
	d.byKeyID.Set(keyID, e)
	return e, nil
}

// Forget drops the entry of a key id.
func (d *Directory) Forget(keyID string) {
	if e, ok := d.byKeyID.Invalidate(keyID); ok {
		d.byCredential.Invalidate(e.Credential.ID)
	}
}

// Stats tells how often an entry was remembered, and as new as it had to be.
func (d *Directory) Stats() Stats { return d.tally.stats() }

// Current gives the entry of a credential as it is at the counter, which the
// caller has read after its own request began.
func (d *Directory) Current(ctx context.Context, credentialID uuid.UUID, counter int64) (*Entry, error) {
	e, ok := d.byCredential.GetIfPresent(credentialID)
	if d.tally.note(ok && e.counter.Load() >= counter) {
		return e, nil
	}
	e, err := d.source.EntryByCredential(ctx, credentialID)
	if err != nil {
		return nil, err
	}
	d.byCredential.Set(credentialID, e)
	return e, nil
}

// Moment is a state of the registry, by its change counter.
type Moment int64

// Now reads the change counter. Concurrent calls share a read, but never one that began
// before they did. It fails with UNAVAILABLE.
func (d *Directory) Now(ctx context.Context) (Moment, error) {
	counter, err := d.counter.get(ctx)
	if err != nil {
		return 0, fault.UnavailableBecause(err)
	}
	return Moment(counter), nil
}

// sharedRead lets all callers that arrive while a read is under way wait
// together for the next one.
type sharedRead struct {
	read    func(context.Context) (int64, error)
	mu      sync.Mutex
	running bool
	next    *readResult
}

type readResult struct {
	done  chan struct{}
	value int64
	err   error
}

func (s *sharedRead) get(ctx context.Context) (int64, error) {
	s.mu.Lock()
	if s.next == nil {
		s.next = &readResult{done: make(chan struct{})}
	}
	mine := s.next
	if !s.running {
		s.running = true
		// The read serves many callers, so it must not end with one of them.
		go s.serve(context.WithoutCancel(ctx))
	}
	s.mu.Unlock()
	select {
	case <-mine.done:
		return mine.value, mine.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (s *sharedRead) serve(ctx context.Context) {
	for {
		s.mu.Lock()
		current := s.next
		s.next = nil
		if current == nil {
			s.running = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		current.value, current.err = s.once(ctx)
		close(current.done)
	}
}

// readTimeout bounds one read of the counter: everybody waits for it.
const readTimeout = 5 * time.Second

func (s *sharedRead) once(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return s.read(ctx)
}
