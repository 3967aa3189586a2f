package store

import (
	"context"
	"database/sql"
	"sync"
	"time"
)

// probeEvery is how often a probe really writes.
const probeEvery = 5 * time.Second

// probePatience bounds one probe.
const probePatience = 2 * time.Second

// probe remembers how the last one went.
type probe struct {
	mu   sync.Mutex
	last time.Time
	err  error
}

// Ping reports whether the database takes writes: one that only answers could not
// record anything. It writes at most every five seconds, and in between says what it
// last found.
func (s *Store) Ping(ctx context.Context) error {
	var counter int64
	if err := s.row(ctx, s.read, "SELECT value FROM change_counter").Scan(&counter); err != nil {
		return broken("reading to see whether it works", err)
	}
	s.probe.mu.Lock()
	defer s.probe.mu.Unlock()
	if !s.probe.last.IsZero() && time.Since(s.probe.last) < probeEvery {
		return s.probe.err
	}
	// Who asks may go away; what was found is for the next one too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probePatience)
	defer cancel()
	s.probe.err = s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := s.exec(ctx, tx, "UPDATE change_counter SET value = value"); err != nil {
			return broken("writing to see whether it works", err)
		}
		return nil
	})
	s.probe.last = time.Now()
	return s.probe.err
}
