package audit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
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

	mu     sync.Mutex
	folded map[foldKey]*fold
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
}

// Bounds on a Folder.
const (
	foldWindow = time.Minute
	maxFolds   = 10_000
)

// NewFolder makes a folder before the log.
func NewFolder(log *Log, now func() time.Time, logger *slog.Logger) *Folder {
	return &Folder{log: log, window: foldWindow, limit: maxFolds, now: now, logger: logger, folded: map[foldKey]*fold{}}
}

// Deny records a denial. The first of its kind is durable when Deny returns; it
// fails with UNAVAILABLE where it could not be recorded, and then the caller must
// not be answered as if it had been.
func (f *Folder) Deny(ctx context.Context, e Event) error {
	if !f.first(e) {
		return nil
	}
	if err := f.log.Append(ctx, e); err != nil {
		f.forget(e)
		return err
	}
	return nil
}

func keyOf(e Event) foldKey {
	return foldKey{organization: e.OrganizationID, agent: e.AgentID, action: e.Action, reason: e.Reason, source: e.SourceIP}
}

// first reports whether e is the first of its kind, and counts it if not.
func (f *Folder) first(e Event) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := keyOf(e)
	known := f.folded[key]
	if known == nil && len(f.folded) >= f.limit {
		// With so many sources at once, one kind stands for all of them.
		key = foldKey{action: e.Action, reason: "many_sources"}
		if known = f.folded[key]; known == nil {
			e.SourceIP = ""
			f.folded[key] = &fold{event: e, until: f.now().Add(f.window)}
			return true
		}
	}
	if known == nil {
		f.folded[key] = &fold{event: e, until: f.now().Add(f.window)}
		return true
	}
	known.count++
	known.last = e.Time
	return false
}

func (f *Folder) forget(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.folded, keyOf(e))
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
			f.Flush(ctx, false)
		}
	}
}

// Flush writes the counts whose window has ended, or every count.
func (f *Folder) Flush(ctx context.Context, all bool) {
	for _, e := range f.due(all) {
		if err := f.log.Append(ctx, e); err != nil {
			f.logger.ErrorContext(ctx, "repeated denials could not be recorded", "error", err, "action", string(e.Action), "reason", e.Reason)
		}
	}
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
		delete(f.folded, key)
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
