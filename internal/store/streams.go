package store

import (
	"context"
	"database/sql"
	"errors"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Position gives the sequence up to which a stream of the record has been
// delivered, 0 where nothing has.
func (s *Store) Position(ctx context.Context, name string) (int64, error) {
	var sequence int64
	err := s.row(ctx, s.read, "SELECT sequence FROM audit_streams WHERE name = $1", name).Scan(&sequence)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, broken("reading the position of a stream", err)
	}
	return sequence, nil
}

// Advance moves the position of a stream from one sequence to a later one. It fails
// with CONFLICT where the position is another, as somebody else moved it, and then
// changes nothing.
func (s *Store) Advance(ctx context.Context, name string, from, to int64) error {
	if to <= from {
		return fault.New(fault.Conflict, fault.CodeConflict, "a stream only goes forward")
	}
	return s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		n, err := s.move(ctx, tx, name, from, to)
		if err != nil {
			return broken("moving the position of a stream", err)
		}
		if n == 0 {
			return fault.New(fault.Conflict, fault.CodeConflict, "the stream has been moved by somebody else")
		}
		return nil
	})
}

// move reports how many rows it moved or made.
func (s *Store) move(ctx context.Context, tx *sql.Tx, name string, from, to int64) (int64, error) {
	if from == 0 {
		return s.exec(ctx, tx, "INSERT INTO audit_streams (name, sequence) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", name, to)
	}
	return s.exec(ctx, tx, "UPDATE audit_streams SET sequence = $3 WHERE name = $1 AND sequence = $2", name, from, to)
}
