package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/idempotency"
)

// claim writes the claim that the request carries, if any, with what it makes. It
// must come first in a transaction, so that a repetition is known as one.
func (s *Store) claim(ctx context.Context, tx *sql.Tx, made ...uuid.UUID) error {
	c, ok := idempotency.From(ctx)
	if !ok {
		return nil
	}
	texts := make([]string, len(made))
	for i, id := range made {
		texts[i] = id.String()
	}
	n, err := s.exec(ctx, tx, "INSERT INTO idempotency_keys (caller_id, key, request, made, created_at) VALUES ($1,$2,$3,$4,$5) ON CONFLICT (caller_id, key) DO NOTHING",
		c.CallerID, c.Key, c.Request[:], strings.Join(texts, " "), c.At)
	if err != nil {
		return broken("claiming a key", err)
	}
	if n == 0 {
		return idempotency.Taken()
	}
	return nil
}

// Claimed gives the ids of what was made under a key.
func (s *Store) Claimed(ctx context.Context, c idempotency.Claim) ([]uuid.UUID, error) {
	var request []byte
	var made string
	err := s.row(ctx, s.read, "SELECT request, made FROM idempotency_keys WHERE caller_id = $1 AND key = $2", c.CallerID, c.Key).Scan(&request, &made)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, broken("reading a claim", err)
	}
	if string(request) != string(c.Request[:]) {
		return nil, idempotency.Reused()
	}
	var ids []uuid.UUID
	for text := range strings.FieldsSeq(made) {
		id, err := uuid.Parse(text)
		if err != nil {
			return nil, broken("reading a claim", err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// forgetClaims removes what nobody may repeat any more.
func (s *Store) forgetClaims(ctx context.Context, now time.Time) error {
	if _, err := s.exec(ctx, s.write, "DELETE FROM idempotency_keys WHERE created_at < $1", now.Add(-idempotency.Kept)); err != nil {
		return broken("removing old claims", err)
	}
	return nil
}
