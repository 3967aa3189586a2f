package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

// Deletion is the events of some ranges of sequences, all of one organization.
type Deletion struct {
	OrganizationID uuid.UUID
	// Before is the time that all of them lie before.
	Before time.Time
	// From and To are the times of the oldest and the newest of them.
	From, To time.Time
	Ranges   audit.Ranges
}

// dropWindow is over how much time the events go that go at once, so that few
// partitions are touched.
const dropWindow = 31 * 24 * time.Hour

// WatchClock keeps what is seen of the database's clock.
func (s *Store) WatchClock(ctx context.Context, watch func(database time.Time, seen audit.Clock) audit.Clock) error {
	return s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		c, err := s.lockDrops(ctx, tx)
		if err != nil {
			return err
		}
		var now time.Time
		if err := s.row(ctx, tx, "SELECT now FROM database_clock").Scan(when{&now}); err != nil {
			return broken("reading the database's clock", err)
		}
		c = watch(now, c)
		if _, err := s.exec(ctx, tx, "UPDATE audit_clock SET since = $1, seen = $2", c.Since, c.Seen); err != nil {
			return broken("noting the database's clock", err)
		}
		return nil
	})
}

// lockDrops takes the lock that lets one transaction drop events at a time; it comes
// before any other.
func (s *Store) lockDrops(ctx context.Context, tx *sql.Tx) (audit.Clock, error) {
	var c audit.Clock
	if err := s.row(ctx, tx, "SELECT since, seen FROM audit_clock"+s.dialect.ForUpdate()).Scan(when{&c.Since}, when{&c.Seen}); err != nil {
		return c, broken("reading what was seen of the clock", err)
	}
	return c, nil
}

// Retained gives the organizations that are not on legal hold, oldest first.
func (s *Store) Retained(ctx context.Context, standard int64) ([]audit.Retained, error) {
	all, err := list(ctx, s, s.read, func(row scanner) (r audit.Retained, err error) {
		err = row.Scan(&r.OrganizationID, &r.Days)
		return r, err
	}, "SELECT id, coalesce(audit_retention_days, $1) FROM organizations WHERE NOT legal_hold ORDER BY created_at, id", standard)
	if err != nil {
		return nil, broken("listing retentions", err)
	}
	return all, nil
}

// DropEvents deletes the oldest events of an organization, and appends the event that
// tells of them. Its locks are, in this order, that of drops, the organization, and the
// head of the record; the last, which all writers need, only when all is deleted.
func (s *Store) DropEvents(ctx context.Context, d audit.Drop, event func(audit.Ranges) audit.Event) (int64, error) {
	var gone int64
	err := s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		gone = 0
		if _, err := s.lockDrops(ctx, tx); err != nil {
			return err
		}
		due, err := s.due(ctx, tx, d)
		if err != nil || len(due.Ranges) == 0 {
			return err
		}
		for _, st := range s.dialect.Drop(due) {
			if _, err := s.exec(ctx, tx, st.Query, st.Args...); err != nil {
				return broken("dropping events", err)
			}
		}
		if err := s.append(ctx, tx, event(due.Ranges)); err != nil {
			return err
		}
		gone = due.Ranges.Count()
		return nil
	})
	if err != nil {
		return 0, err
	}
	return gone, nil
}

// due finds what one transaction is to delete, nothing where the organization's
// retention is no longer the one that was asked for.
func (s *Store) due(ctx context.Context, tx *sql.Tx, d audit.Drop) (Deletion, error) {
	due := Deletion{OrganizationID: d.OrganizationID, Before: d.Before}
	var days int64
	err := s.row(ctx, tx, "SELECT coalesce(audit_retention_days, $1) FROM organizations WHERE id = $2 AND NOT legal_hold", d.Days, d.OrganizationID).Scan(&days)
	if errors.Is(err, sql.ErrNoRows) || err == nil && days != d.Days {
		return due, nil
	}
	if err != nil {
		return due, broken("reading an organization's retention", err)
	}
	times := map[int64]time.Time{}
	var sequences []int64
	_, err = list(ctx, s, tx, func(row scanner) (none struct{}, err error) {
		var (
			sequence int64
			at       time.Time
		)
		if err = row.Scan(&sequence, when{&at}); err != nil {
			return none, err
		}
		if len(sequences) == 0 || at.Before(times[sequences[0]].Add(dropWindow)) {
			times[sequence] = at
			sequences = append(sequences, sequence)
		}
		return none, nil
	}, `SELECT sequence, time FROM audit_events WHERE organization_id = $1 AND time < $2 AND action <> 'audit.dropped'
		AND sequence <= (SELECT size FROM audit_tree) ORDER BY time, id LIMIT `+strconv.Itoa(d.Events), s.dialect.Once([]any{d.OrganizationID, d.Before})...)
	if err != nil {
		return due, broken("looking for events to drop", err)
	}
	due.Ranges = audit.RangesOf(sequences, d.Ranges)
	for _, r := range due.Ranges {
		for n := r.First; n <= r.Last; n++ {
			if at := times[n]; due.From.IsZero() || at.Before(due.From) {
				due.From = at
			}
			if at := times[n]; at.After(due.To) {
				due.To = at
			}
		}
	}
	return due, nil
}

// DropDays has nothing to free: the room of what is deleted is used again.
func (s *Store) DropDays(context.Context) (int, error) { return 0, nil }
