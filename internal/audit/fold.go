package audit

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Folder records denials without letting an attacker fill the disk: the first of
// a kind is written at once, and those like it within the window become one event
// that counts them.
type Folder struct {
	log    *Log
	window time.Duration
	limit  int
	now    func() time.Time
	logger *slog.Logger

	mu        sync.Mutex
	folded    map[foldKey]*fold
	anonymous int // how many of them are about no agent
}

// foldKey is what makes two denials the same. The client that an unauthenticated
// caller claims to be is not in it, as it could claim another each time.
type foldKey struct {
	organization uuid.UUID
	agent        uuid.UUID
	action       Action
	reason       string
	source       string
}

type fold struct {
	event Event
	count int64
	last  time.Time
	until time.Time
	// done is closed when the first of the kind is durable, or could not be made so.
	done chan struct{}
	err  error
}

// Bounds on a Folder. Who authenticates as nobody gets a small share, so as not to
// drown what is told of agents.
const (
	foldWindow   = time.Minute
	maxFolds     = 10_000
	maxAnonymous = 1_000
)

// NewFolder makes a folder before the log.
func NewFolder(log *Log, now func() time.Time, logger *slog.Logger) *Folder {
	return &Folder{log: log, window: foldWindow, limit: maxFolds, now: now, logger: logger, folded: map[foldKey]*fold{}}
}

// Deny records a denial, and returns when the first of its kind is durable. It
// fails with UNAVAILABLE where that could not be recorded, and then the caller must
// not be answered as if it had been.
func (f *Folder) Deny(ctx context.Context, e Event) error {
	key, d, first := f.fold(e)
	if !first {
		select {
		case <-d.done:
			return d.err
		case <-ctx.Done():
			return fault.UnavailableBecause(context.Cause(ctx))
		}
	}
	// Who hangs up must not make the next of the kind a first one again.
	if d.err = f.log.Append(context.WithoutCancel(ctx), d.event); d.err != nil {
		f.forget(key, d)
	}
	close(d.done)
	return d.err
}

func keyOf(e Event) foldKey {
	source := e.SourceIP
	if addr, err := netip.ParseAddr(source); err == nil {
		source = Network(addr)
	}
	return foldKey{organization: e.OrganizationID, agent: e.AgentID, action: e.Action, reason: e.Reason, source: source}
}

// Network is what of a source address its owner cannot change at will: all of it,
// but the first 64 bits of an IPv6 address.
func Network(addr netip.Addr) string {
	if addr.Is6() {
		if prefix, err := addr.Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return addr.String()
}

// fold finds the kind of e and counts e, unless it is the first.
func (f *Folder) fold(e Event) (foldKey, *fold, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := keyOf(e)
	known := f.folded[key]
	if known == nil && (len(f.folded) >= f.limit || e.AgentID == uuid.Nil && f.anonymous >= maxAnonymous) {
		// With so many sources at once, one kind stands for all of a tenant's.
		e.AgentID, e.Actor, e.Target.ID, e.SourceIP, e.Reason = uuid.Nil, Actor{Type: TypeAnonymous}, "", "", manySources
		key = keyOf(e)
		known = f.folded[key]
	}
	if known != nil {
		known.count++
		known.last = e.Time
		return key, known, false
	}
	d := &fold{event: e, until: f.now().Add(f.window), done: make(chan struct{})}
	f.folded[key] = d
	if key.agent == uuid.Nil {
		f.anonymous++
	}
	return key, d, true
}

// manySources is the reason of the event that stands for more kinds of denial than
// are told apart.
const manySources = "many_sources"

func (f *Folder) forget(key foldKey, d *fold) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.folded[key] == d {
		f.drop(key)
	}
}

func (f *Folder) drop(key foldKey) {
	delete(f.folded, key)
	if key.agent == uuid.Nil {
		f.anonymous--
	}
}

// Run writes what was counted whenever a window ends, until ctx is done; then it
// writes all that is left.
func (f *Folder) Run(ctx context.Context) {
	ticker := time.NewTicker(f.window / 6)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			f.Flush(context.WithoutCancel(ctx), true)
			return
		case <-ticker.C:
			f.Flush(context.WithoutCancel(ctx), false)
		}
	}
}

// flushed is how many counts are handed to the log at a time, well below what its
// queue holds.
const flushed = 256

// Flush writes the counts whose window has ended, or every count.
func (f *Folder) Flush(ctx context.Context, all bool) {
	for events := range slices.Chunk(f.due(all), flushed) {
		waiting := make([]*Pending, len(events))
		for i, e := range events {
			var err error
			if waiting[i], err = f.log.Submit(Record{Event: e}); err != nil {
				f.lost(ctx, e, err)
			}
		}
		for i, p := range waiting {
			if p == nil {
				continue
			}
			if _, err := p.Wait(ctx); err != nil {
				f.lost(ctx, events[i], err)
			}
		}
	}
}

func (f *Folder) lost(ctx context.Context, e Event, err error) {
	f.logger.ErrorContext(ctx, "repeated denials could not be recorded", "error", err, "action", string(e.Action), "reason", e.Reason)
}

func (f *Folder) due(all bool) []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	var events []Event
	for key, d := range f.folded {
		if !all && now.Before(d.until) {
			continue
		}
		f.drop(key)
		if d.count == 0 {
			continue
		}
		first := d.event
		e := Origin{Actor: first.Actor, SourceIP: first.SourceIP}.
			Event(now, first.OrganizationID, first.Action, first.Target).About(first.AgentID).Deny(first.Reason).
			With(Details{}.Int("repeated", d.count).String("firstEventId", first.ID.String()).Time("lastAt", d.last))
		events = append(events, e)
	}
	return events
}
