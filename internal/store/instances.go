package store

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

// NoteInstances notes when instances used credentials last.
func (s *Store) NoteInstances(ctx context.Context, seen []credential.Instance) error {
	for chunk := range slices.Chunk(seen, most) {
		err := s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.noteInstances(ctx, tx, chunk) })
		if err != nil {
			return err
		}
	}
	return nil
}

// instance is the key of one.
type instance struct {
	credential uuid.UUID
	name       string
	named      bool
}

// noteInstances moves the times of those that are known, and adds the others where there
// is room.
func (s *Store) noteInstances(ctx context.Context, tx *sql.Tx, seen []credential.Instance) error {
	rows := giving("id uuid", "name text", "named boolean", "at timestamptz")
	for _, one := range seen {
		rows.add(one.CredentialID, one.Name, one.Named, one.LastUsedAt)
	}
	clause, args := s.with(rows)
	moved := map[instance]bool{}
	_, err := list(ctx, s, tx, func(row scanner) (none struct{}, err error) {
		var k instance
		err = row.Scan(&k.credential, &k.name, &k.named)
		moved[k] = true
		return none, err
	}, clause+`UPDATE credential_instances SET last_used_at = given.at FROM given WHERE credential_instances.credential_id = given.id
		AND credential_instances.instance = given.name AND credential_instances.named = given.named AND credential_instances.last_used_at < given.at
		RETURNING credential_instances.credential_id, credential_instances.instance, credential_instances.named`, args...)
	if err != nil {
		return broken("noting instances", err)
	}
	counts, err := s.countInstances(ctx, tx, seen, moved)
	if err != nil {
		return err
	}
	added := giving("id uuid", "name text", "named boolean", "at timestamptz")
	for _, one := range seen {
		if !moved[instance{one.CredentialID, one.Name, one.Named}] && counts[one.CredentialID] < credential.MaxInstances {
			counts[one.CredentialID]++
			added.add(one.CredentialID, one.Name, one.Named, one.LastUsedAt)
		}
	}
	if len(added[0].Values) == 0 {
		return nil
	}
	clause, args = s.with(added)
	if _, err := s.exec(ctx, tx, clause+`INSERT INTO credential_instances (credential_id, instance, named, first_used_at, last_used_at)
		SELECT id, name, named, at, at FROM given WHERE true ON CONFLICT (credential_id, instance, named) DO UPDATE
		SET last_used_at = excluded.last_used_at WHERE credential_instances.last_used_at < excluded.last_used_at`, args...); err != nil {
		return broken("adding instances", err)
	}
	return nil
}

// countInstances says how many instances there are of each credential that has new ones.
func (s *Store) countInstances(ctx context.Context, tx *sql.Tx, seen []credential.Instance, moved map[instance]bool) (map[uuid.UUID]int, error) {
	counts, rows := map[uuid.UUID]int{}, giving("id uuid")
	for _, one := range seen {
		if _, asked := counts[one.CredentialID]; !asked && !moved[instance{one.CredentialID, one.Name, one.Named}] {
			counts[one.CredentialID] = 0
			rows.add(one.CredentialID)
		}
	}
	if len(counts) == 0 {
		return counts, nil
	}
	clause, args := s.with(rows)
	_, err := list(ctx, s, tx, func(row scanner) (none struct{}, err error) {
		var (
			id uuid.UUID
			n  int
		)
		err = row.Scan(&id, &n)
		counts[id] = n
		return none, err
	}, clause+"SELECT given.id, (SELECT count(*) FROM credential_instances i WHERE i.credential_id = given.id) FROM given", args...)
	if err != nil {
		return nil, broken("counting instances", err)
	}
	return counts, nil
}

// mostInstances is how many are read of one agent.
const mostInstances = credential.MaxLive * credential.MaxInstances

// AgentInstances gives the instances of an agent's credentials, newest first.
func (s *Store) AgentInstances(ctx context.Context, organization, agentID uuid.UUID, since time.Time) ([]credential.Instance, error) {
	if _, err := s.Agent(ctx, organization, agentID); err != nil {
		return nil, err
	}
	all, err := listed(ctx, s, func(row scanner) (i credential.Instance, err error) {
		err = row.Scan(&i.CredentialID, &i.Name, &i.Named, when{&i.FirstUsedAt}, when{&i.LastUsedAt})
		return i, err
	}, `SELECT i.credential_id, i.instance, i.named, i.first_used_at, i.last_used_at FROM credentials c JOIN credential_instances i ON i.credential_id = c.id
		WHERE c.agent_id = $1 AND i.last_used_at >= $2 LIMIT `+strconv.Itoa(mostInstances), agentID, since)
	if err != nil {
		return nil, broken("listing instances", err)
	}
	slices.SortFunc(all, func(a, b credential.Instance) int {
		if c := b.LastUsedAt.Compare(a.LastUsedAt); c != 0 {
			return c
		}
		return slices.Compare(b.CredentialID[:], a.CredentialID[:])
	})
	return all, nil
}

// forgetInstances removes those that were not seen for long.
func (s *Store) forgetInstances(ctx context.Context, now time.Time) error {
	if _, err := s.exec(ctx, s.write, "DELETE FROM credential_instances WHERE last_used_at < $1", now.Add(-credential.InstancesKept)); err != nil {
		return broken("forgetting instances", err)
	}
	return nil
}
