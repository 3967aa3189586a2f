package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Survey is what can be seen of a database without changing it.
type Survey struct {
	// Schema is the version of its schema, 0 where there is none, and Newest the one
	// that this program brings.
	Schema, Newest int64
	// Drift is the database's clock less this machine's; zero for the embedded one.
	Drift time.Duration
	// Excess says what the role may do that a server has no use for.
	Excess []string
	// Frail says which settings let go of what was committed, or come from a server that
	// is too old.
	Frail []string
	Archive
	Vitals
}

// Archive is how a database server keeps its log for a restore.
type Archive struct {
	// On says that it does so at all.
	On bool
	// At and FailedAt are when it last succeeded and last failed, zero for never.
	At, FailedAt time.Time
}

// Vitals is how the record stands; zero where the schema is not of this version.
type Vitals struct {
	// Newest and Oldest are the times of the last event, and of the oldest that no
	// published checkpoint covers; zero where there is none.
	NewestEvent, OldestUncovered time.Time
	// Overdue is the time of the oldest event that is past its organization's
	// retention, zero where there is none, and OverdueDays that retention.
	Overdue     time.Time
	OverdueDays int64
}

// SchemaOf reads the version of the schema, 0 where there is none or missing says that
// an error means that.
func SchemaOf(ctx context.Context, db *sql.DB, missing func(error) bool) (int64, error) {
	var have int64
	err := db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&have)
	if err != nil && missing(err) {
		return 0, nil
	}
	return have, err
}

// Vitals reads how the record stands. standard is the retention in days of organizations
// that have none of their own, grace how long an event may be past it, and now the time.
func (s *Store) Vitals(ctx context.Context, standard int64, grace time.Duration, now time.Time) (Vitals, error) {
	var v Vitals
	last := s.row(ctx, s.read, "SELECT time FROM audit_events WHERE sequence = (SELECT sequence FROM audit_head)")
	if err := last.Scan(when{&v.NewestEvent}); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return v, broken("reading the last event", err)
	}
	open := s.row(ctx, s.read, "SELECT time FROM audit_events WHERE sequence > (SELECT published_size FROM audit_tree) ORDER BY sequence LIMIT 1")
	if err := open.Scan(when{&v.OldestUncovered}); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return v, broken("reading the oldest event without a checkpoint", err)
	}
	all, err := s.Retained(ctx, standard)
	if err != nil {
		return v, err
	}
	for _, r := range all {
		before := now.Add(-time.Duration(r.Days)*24*time.Hour - grace)
		var at time.Time
		err := s.row(ctx, s.read, `SELECT time FROM audit_events WHERE organization_id = $1 AND time < $2 AND action <> 'audit.dropped'
			AND sequence <= (SELECT size FROM audit_tree) ORDER BY time, id LIMIT 1`, r.OrganizationID, before).Scan(when{&at})
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return v, broken("looking for events past their retention", err)
		}
		if v.Overdue.IsZero() || at.Before(v.Overdue) {
			v.Overdue, v.OverdueDays = at, r.Days
		}
	}
	return v, nil
}
