package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
)

// RevokeToken stores that a token is revoked, and the event.
func (s *Store) RevokeToken(ctx context.Context, id uuid.UUID, expiresAt time.Time, event audit.Event) error {
	return s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		n, err := s.exec(ctx, tx, "INSERT INTO revoked_tokens (jti, expires_at) VALUES ($1, $2) ON CONFLICT (jti) DO NOTHING", id, expiresAt)
		if err != nil {
			return broken("revoking a token", err)
		}
		if n == 0 {
			return nil
		}
		if err := s.raise(ctx, tx); err != nil {
			return err
		}
		return s.append(ctx, tx, event)
	})
}

// TokenRevoked reports whether a token was revoked.
func (s *Store) TokenRevoked(ctx context.Context, id uuid.UUID) (bool, error) {
	var n int
	if err := s.row(ctx, s.read, "SELECT count(*) FROM revoked_tokens WHERE jti = $1", id).Scan(&n); err != nil {
		return false, broken("reading a revocation", err)
	}
	return n > 0, nil
}

// revocationGrace is how long after its token's end a revocation is kept: twice as
// long as any token lives, so that a clock that jumps ahead and back revives none.
const revocationGrace = 48 * time.Hour

// Maintain forgets the revocations of tokens that have expired anyway, the requests that
// nobody may repeat and the suspensions that nobody may undo any more,
// and instances that were not seen for long.
func (s *Store) Maintain(ctx context.Context, now time.Time) error {
	_, err := s.ForgetRevocations(ctx, now.Add(-revocationGrace))
	return errors.Join(err, s.forgetClaims(ctx, now), s.forgetDecisions(ctx, now), s.forgetInstances(ctx, now))
}

// ForgetRevocations removes the revocations of tokens that expired before the
// given time, and says how many there were.
func (s *Store) ForgetRevocations(ctx context.Context, before time.Time) (int64, error) {
	n, err := s.exec(ctx, s.write, "DELETE FROM revoked_tokens WHERE expires_at < $1", before)
	if err != nil {
		return 0, broken("removing old revocations", err)
	}
	return n, nil
}

const keyColumns = "kid, alg, sealed, public_jwk, created_at, activates_at, retires_at"

func scanKey(row scanner) (keys.Stored, error) {
	var k keys.Stored
	err := row.Scan(&k.KID, &k.Alg, &k.Sealed, &k.PublicJWK, when{&k.CreatedAt}, when{&k.ActivatesAt}, when{&k.RetiresAt})
	return k, err
}

func (s *Store) signingKeys(ctx context.Context, q querier) ([]keys.Stored, error) {
	all, err := list(ctx, s, q, scanKey, "SELECT "+keyColumns+" FROM signing_keys ORDER BY created_at, kid")
	if err != nil {
		return nil, broken("reading signing keys", err)
	}
	return all, nil
}

// SigningKeys gives all signing keys, oldest first.
func (s *Store) SigningKeys(ctx context.Context) ([]keys.Stored, error) {
	return s.signingKeys(ctx, s.read)
}

// ChangeSigningKeys lets change decide on the present keys, and writes what it
// returns.
func (s *Store) ChangeSigningKeys(ctx context.Context, change func(current []keys.Stored) ([]keys.Stored, audit.Event, error)) error {
	return s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lock(ctx, tx); err != nil {
			return err
		}
		current, err := s.signingKeys(ctx, tx)
		if err != nil {
			return err
		}
		changed, event, err := change(current)
		if err != nil {
			return err
		}
		for _, k := range changed {
			_, err := s.exec(ctx, tx, "INSERT INTO signing_keys ("+keyColumns+") VALUES ($1,$2,$3,$4,$5,$6,$7)"+
				" ON CONFLICT (kid) DO UPDATE SET retires_at = excluded.retires_at",
				k.KID, string(k.Alg), k.Sealed, k.PublicJWK, k.CreatedAt, k.ActivatesAt, k.RetiresAt)
			if err != nil {
				return broken("storing a signing key", err)
			}
		}
		return s.append(ctx, tx, event)
	})
}

// ResealSigningKey replaces how a key is sealed.
func (s *Store) ResealSigningKey(ctx context.Context, kid string, sealed []byte) error {
	if _, err := s.exec(ctx, s.write, "UPDATE signing_keys SET sealed = $1 WHERE kid = $2", sealed, kid); err != nil {
		return broken("sealing a signing key anew", err)
	}
	return nil
}
