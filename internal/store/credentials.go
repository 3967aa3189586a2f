package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
)

// credentialRow is what is stored of a credential; credentialColumns tells also when it
// was used last.
const (
	credentialRow = `c.id, c.agent_id, c.organization_id, c.key_id, c.label, c.bcrypt, c.fingerprint, c.fingerprint_key,
	c.created_at, c.expires_at, c.revoked_at, c.rotated_from, c.revision,
	c.not_after, c.pending, c.canary, c.refused_until, coalesce(c.retire_after, 0), c.retire_since`
	credentialColumns = credentialRow + ", (SELECT u.last_used_at FROM credential_uses u WHERE u.credential_id = c.id)"
)

func credentialDestinations(c *credential.Credential) []any {
	return []any{
		&c.ID, &c.AgentID, &c.OrganizationID, &c.KeyID, &c.Label, &c.Verifier.Bcrypt, &c.Verifier.Fingerprint, &c.Verifier.FingerprintKeyID,
		when{&c.CreatedAt},
		when{&c.ExpiresAt},
		when{&c.RevokedAt},
		maybeID{&c.RotatedFrom},
		&c.Revision,
		when{&c.NotAfter},
		&c.Pending,
		&c.Canary,
		when{&c.RefusedUntil},
		span{&c.RetireAfter},
		when{&c.RetireSince},
	}
}

func scanCredential(row scanner) (credential.Credential, error) {
	var c credential.Credential
	err := row.Scan(append(credentialDestinations(&c), when{&c.LastUsedAt})...)
	return c, err
}

// saveCredential stores a credential, new or changed. An end that is new, or another
// one, is to be looked at by the schedule at once.
func (s *Store) saveCredential(ctx context.Context, tx *sql.Tx, c credential.Credential) error {
	look := c.CreatedAt
	if c.ExpiresAt.IsZero() || !c.RevokedAt.IsZero() {
		look = time.Time{}
	}
	_, err := s.exec(ctx, tx, `INSERT INTO credentials (id, agent_id, organization_id, key_id, label, bcrypt, fingerprint, fingerprint_key,
		created_at, expires_at, revoked_at, rotated_from, revision, not_after, pending, canary, refused_until, retire_after, retire_since, warn_at)
		VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20)
		ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, revoked_at = excluded.revoked_at, revision = credentials.revision + 1,
		not_after = excluded.not_after, pending = excluded.pending, refused_until = excluded.refused_until,
		retire_after = excluded.retire_after, retire_since = excluded.retire_since,
		warn_at = CASE WHEN excluded.expires_at = credentials.expires_at AND excluded.revoked_at IS NULL THEN credentials.warn_at ELSE excluded.warn_at END,
		warned = CASE WHEN excluded.expires_at = credentials.expires_at THEN credentials.warned END`,
		c.ID, c.AgentID, c.OrganizationID, c.KeyID, c.Label, c.Verifier.Bcrypt, c.Verifier.Fingerprint, c.Verifier.FingerprintKeyID,
		c.CreatedAt, c.ExpiresAt, c.RevokedAt, c.RotatedFrom, c.Revision, c.NotAfter, c.Pending, c.Canary, c.RefusedUntil,
		positive(int64(c.RetireAfter/time.Second)), c.RetireSince, look)
	if err != nil {
		return broken("storing a credential", err)
	}
	return nil
}

// positive is a number that is NULL where there is none.
func positive(n int64) sql.NullInt64 { return sql.NullInt64{Int64: n, Valid: n > 0} }

// span scans a number of seconds.
type span struct{ to *time.Duration }

// Scan takes seconds.
func (s span) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a number of seconds cannot be read from %T", v)
	}
	*s.to = time.Duration(n) * time.Second
	return nil
}

// ChangeCredentials reads an agent and its live credentials, and writes what
// change decides.
func (s *Store) ChangeCredentials(ctx context.Context, organization, agentID uuid.UUID,
	change func(h credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error),
) error {
	return s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lock(ctx, tx); err != nil {
			return err
		}
		if err := s.settle(ctx, tx, agentID); err != nil {
			return err
		}
		a, err := s.agent(ctx, tx, organization, agentID, s.dialect.ForUpdate())
		if err != nil {
			return err
		}
		live, err := s.liveCredentials(ctx, tx, agentID)
		if err != nil {
			return err
		}
		h := holder(a)
		if h.Policy, err = s.rotationPolicy(ctx, tx, organization, a.Type); err != nil {
			return err
		}
		changed, event, err := change(h, live)
		if err != nil {
			return err
		}
		if len(changed) > 0 {
			if err := s.claim(ctx, tx, agentID, changed[0].ID); err != nil {
				return err
			}
		}
		for _, c := range changed {
			if err := s.saveCredential(ctx, tx, c); err != nil {
				return err
			}
		}
		if err := s.raise(ctx, tx); err != nil {
			return err
		}
		return s.append(ctx, tx, event)
	})
}

// Credential gives one credential of an agent of the organization.
func (s *Store) Credential(ctx context.Context, organization, agentID, id uuid.UUID) (credential.Credential, error) {
	if _, err := s.Agent(ctx, organization, agentID); err != nil {
		return credential.Credential{}, err
	}
	c, err := scanCredential(s.row(ctx, s.read, "SELECT "+credentialColumns+" FROM credentials c WHERE c.id = $1 AND c.agent_id = $2", id, agentID))
	if errors.Is(err, sql.ErrNoRows) {
		return c, fault.New(fault.NotFound, fault.CodeCredentialNotFound, "there is no such credential")
	}
	if err != nil {
		return c, broken("reading a credential", err)
	}
	return c, nil
}

// Credentials lists an agent's credentials, newest first.
func (s *Store) Credentials(ctx context.Context, organization, agentID uuid.UUID, q page.Query) (page.Page[credential.Credential], error) {
	if _, err := s.Agent(ctx, organization, agentID); err != nil {
		return page.Page[credential.Credential]{}, err
	}
	var w where
	w.add("c.agent_id = $?", agentID)
	w.after("c.created_at", "c.id", q.After)
	rows, err := listed(ctx, s, scanCredential, "SELECT "+credentialColumns+" FROM credentials c WHERE "+w.String()+
		" ORDER BY c.created_at DESC, c.id DESC LIMIT "+strconv.Itoa(q.Limit+1), w.args...)
	if err != nil {
		return page.Page[credential.Credential]{}, broken("listing credentials", err)
	}
	return page.Cut(rows, q.Limit, func(c credential.Credential) page.Cursor { return page.Cursor{Time: c.CreatedAt, ID: c.ID} }), nil
}

// SaveVerifier replaces how a secret is verified.
func (s *Store) SaveVerifier(ctx context.Context, id uuid.UUID, v credential.Verifier) error {
	_, err := s.exec(ctx, s.write, "UPDATE credentials SET bcrypt = $1, fingerprint = $2, fingerprint_key = $3 WHERE id = $4",
		v.Bcrypt, v.Fingerprint, v.FingerprintKeyID, id)
	if err != nil {
		return broken("renewing a verifier", err)
	}
	return nil
}

// EntryByKeyID gives the credential whose secret carries the key id.
func (s *Store) EntryByKeyID(ctx context.Context, keyID string) (*token.Entry, error) {
	return s.entry(ctx, "c.key_id = $1", keyID)
}

// EntryByCredential gives the credential of that id.
func (s *Store) EntryByCredential(ctx context.Context, id uuid.UUID) (*token.Entry, error) {
	return s.entry(ctx, "c.id = $1", id)
}

// entry reads a credential, its agent and the change counter in one statement,
// so that all three belong to one state of the database. When they were used last is
// nothing that a decision rests on.
func (s *Store) entry(ctx context.Context, which string, key any) (*token.Entry, error) {
	var (
		a       agent.Agent
		c       credential.Credential
		counter int64
	)
	dest, finish := agentDestinations(&a)
	dest = append(append(dest, credentialDestinations(&c)...), &counter)
	err := s.row(ctx, s.read, "SELECT "+agentRow+", "+credentialRow+", n.value FROM credentials c JOIN agents a ON a.id = c.agent_id, change_counter n WHERE "+which, key).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, token.ErrNoEntry
	}
	if err != nil {
		return nil, broken("reading a credential", err)
	}
	finish()
	return token.NewEntry(a, c, counter), nil
}
