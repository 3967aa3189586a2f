package postgres

import (
	"context"
	"fmt"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/store"
)

// Drop leaves it to the owner's function, as the server's role may delete nothing.
func (dialect) Drop(d store.Deletion) []store.Statement {
	firsts, lasts := make([]int64, len(d.Ranges)), make([]int64, len(d.Ranges))
	for i, r := range d.Ranges {
		firsts[i], lasts[i] = r.First, r.Last
	}
	return []store.Statement{{
		Query: "SELECT audit_drop($1, $2, $3, $4, $5, $6)", Args: []any{d.OrganizationID, d.Before, d.From, d.To, firsts, lasts},
	}}
}

// DropDays takes away the partitions of days of which nothing is left but what tells of
// their drop.
func (s *Store) DropDays(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, dropDaysTimeout)
	defer cancel()
	days, err := s.days(ctx)
	if err != nil {
		return 0, fmt.Errorf("listing the partitions of the record: %w", err)
	}
	gone := 0
	for _, day := range days {
		var went bool
		if err := s.db.QueryRowContext(ctx, "SELECT audit_drop_day($1::date)", day.Format(time.DateOnly)).Scan(&went); err != nil {
			return gone, fmt.Errorf("dropping a partition of the record: %w", err)
		}
		if went {
			gone++
		}
	}
	return gone, nil
}

// dropDaysTimeout bounds the look at all partitions.
const dropDaysTimeout = time.Minute

// partitionName is what the partition of a day is called.
const partitionName = "audit_events_20060102"

// days gives the days that have a partition, today and later ones left out.
func (s *Store) days(ctx context.Context) ([]time.Time, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'audit_events'::regclass AND c.relname < 'audit_events_' || to_char(now(), 'YYYYMMDD') ORDER BY c.relname`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var days []time.Time
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		if day, err := time.Parse(partitionName, name); err == nil {
			days = append(days, day)
		}
	}
	return days, rows.Err()
}
