package store

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// placed is an agent in the order in which policies are applied.
type placed struct {
	id   uuid.UUID
	kind string
	at   time.Time
	skip bool
}

// nextAgents gives the agents that a policy is to be brought to next, oldest first.
func (s *Store) nextAgents(ctx context.Context, tx *sql.Tx, u unapplied, limit int) ([]placed, error) {
	var w where
	w.add("organization_id = $?", u.OrganizationID)
	if u.AgentType != credential.AnyType {
		w.add("agent_type = $?", u.AgentType)
	}
	w.beyond("created_at", "id", page.Cursor{Time: u.at, ID: u.id})
	agents, err := list(ctx, s, tx, func(row scanner) (p placed, err error) {
		err = row.Scan(&p.id, &p.kind, when{&p.at})
		return p, err
	}, "SELECT id, agent_type, created_at FROM agents WHERE "+w.String()+" ORDER BY created_at, id LIMIT "+strconv.Itoa(limit), w.args...)
	if err != nil {
		return nil, broken("reading agents", err)
	}
	return agents, nil
}

// liveOf gives the credentials of the agents that were not revoked.
func (s *Store) liveOf(ctx context.Context, tx *sql.Tx, agents []placed) ([]credential.Credential, error) {
	rows, some := giving("id uuid"), false
	for _, a := range agents {
		if !a.skip {
			rows.add(a.id)
			some = true
		}
	}
	if !some {
		return nil, nil
	}
	clause, args := s.with(rows)
	live, err := list(ctx, s, tx, scanCredential, clause+"SELECT "+credentialColumns+" FROM given JOIN credentials c ON c.agent_id = given.id WHERE c.revoked_at IS NULL", args...)
	if err != nil {
		return nil, broken("reading credentials", err)
	}
	return live, nil
}

// writeEnds gives credentials the ends that they have now, and has the schedule look at
// all that have one: when to warn of it may be another matter too.
func (s *Store) writeEnds(ctx context.Context, tx *sql.Tx, changed, live []credential.Credential) error {
	ends, looks := giving("id uuid", "expires_at timestamptz"), giving("id uuid", "warn_at timestamptz")
	for _, c := range changed {
		ends.add(c.ID, c.ExpiresAt)
	}
	again := map[uuid.UUID]bool{}
	for _, c := range append(changed, live...) {
		if !c.ExpiresAt.IsZero() && !again[c.ID] {
			again[c.ID] = true
			looks.add(c.ID, c.CreatedAt)
		}
	}
	if len(changed) > 0 {
		clause, args := s.with(ends)
		if _, err := s.exec(ctx, tx, clause+"UPDATE credentials SET expires_at = given.expires_at, warned = NULL, revision = revision + 1 FROM given WHERE credentials.id = given.id", args...); err != nil {
			return broken("writing the ends of credentials", err)
		}
	}
	if len(again) == 0 {
		return nil
	}
	clause, args := s.with(looks)
	// What has ended, and was told of, stays as it is.
	if _, err := s.exec(ctx, tx, clause+"UPDATE credentials SET warn_at = given.warn_at FROM given WHERE credentials.id = given.id AND (credentials.warned IS NULL OR credentials.warned > 0)", args...); err != nil {
		return broken("having credentials looked at", err)
	}
	return nil
}

// DueCredentials gives credentials that the schedule is to look at.
func (s *Store) DueCredentials(ctx context.Context, now time.Time, limit int) ([]credential.Due, error) {
	due, err := list(ctx, s, s.read, func(row scanner) (credential.Due, error) {
		var (
			d            credential.Due
			capabilities string
			warned       int64
		)
		dest := append(credentialDestinations(&d.Credential), when{&d.LastUsedAt}, when{&d.WarnAt}, &warned, &d.Holder.AgentType, &d.Holder.Status, &capabilities)
		if err := row.Scan(dest...); err != nil {
			return d, err
		}
		d.Warned = time.Duration(warned) * time.Second
		d.Holder.AgentID, d.Holder.OrganizationID, d.Holder.Capabilities = d.AgentID, d.OrganizationID, scope.Set(strings.Fields(capabilities))
		return d, nil
	}, "SELECT "+credentialColumns+", c.warn_at, coalesce(c.warned, -1), a.agent_type, a.status, a.capabilities FROM credentials c JOIN agents a ON a.id = c.agent_id WHERE c.warn_at <= $1 ORDER BY c.warn_at, c.id LIMIT "+
		strconv.Itoa(limit), now)
	if err != nil {
		return nil, broken("looking for credentials that end", err)
	}
	return due, nil
}

// NoteLooks writes what became of looks, but those that somebody else took.
func (s *Store) NoteLooks(ctx context.Context, looks []credential.Look) (told int, err error) {
	err = s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lock(ctx, tx); err != nil {
			return err
		}
		told = 0
		rows, byID := giving("id uuid", "seen timestamptz", "next timestamptz", "warned bigint"), map[uuid.UUID]credential.Look{}
		for _, l := range looks {
			var warned any // NULL where nobody was told
			if l.Warned != credential.Untold {
				warned = int64(l.Warned / time.Second)
			}
			rows.add(l.ID, l.Seen, l.Next, warned)
			byID[l.ID] = l
		}
		clause, args := s.with(rows)
		mine, err := list(ctx, s, tx, func(row scanner) (id uuid.UUID, err error) { err = row.Scan(&id); return id, err },
			clause+"UPDATE credentials SET warn_at = given.next, warned = given.warned FROM given WHERE credentials.id = given.id AND credentials.warn_at = given.seen RETURNING credentials.id", args...)
		if err != nil {
			return broken("noting what was told of ends", err)
		}
		var events []audit.Event
		for _, id := range mine {
			if e := byID[id].Event; e != nil {
				events = append(events, *e)
			}
		}
		told = len(events)
		return s.append(ctx, tx, events...)
	})
	return told, err
}

// UsedSuccessors gives successors that agents made and have used by now.
func (s *Store) UsedSuccessors(ctx context.Context, after uuid.UUID, limit int) ([]credential.Credential, error) {
	return s.marked(ctx, where{terms: []string{"c.pending", "EXISTS (SELECT 1 FROM credential_uses u WHERE u.credential_id = c.id)", "c.revoked_at IS NULL"}}, after, limit)
}

// RetiringCredentials gives credentials that are to be revoked once they are unused.
func (s *Store) RetiringCredentials(ctx context.Context, after uuid.UUID, limit int) ([]credential.Credential, error) {
	return s.marked(ctx, where{terms: []string{"c.retire_after IS NOT NULL", "c.revoked_at IS NULL"}}, after, limit)
}

// marked gives credentials of a mark that few have, in order of their ids.
func (s *Store) marked(ctx context.Context, w where, after uuid.UUID, limit int) ([]credential.Credential, error) {
	if after != uuid.Nil {
		w.add("c.id > $?", after)
	}
	all, err := list(ctx, s, s.read, scanCredential, "SELECT "+credentialColumns+" FROM credentials c WHERE "+w.String()+" ORDER BY c.id LIMIT "+strconv.Itoa(limit), w.args...)
	if err != nil {
		return nil, broken("looking for credentials", err)
	}
	return all, nil
}

// ExpiringCredentials lists an organization's credentials that end at a time or later and
// before another, and are not revoked; soonest first.
func (s *Store) ExpiringCredentials(ctx context.Context, organization uuid.UUID, from, before time.Time, q page.Query) (page.Page[credential.Credential], error) {
	var w where
	w.add("c.organization_id = $?", organization)
	w.terms = append(w.terms, "c.revoked_at IS NULL")
	if q.After.IsZero() {
		w.add("c.expires_at >= $?", from)
	}
	w.add("c.expires_at < $?", before)
	w.beyond("c.expires_at", "c.id", q.After)
	rows, err := listed(ctx, s, scanCredential, "SELECT "+credentialColumns+" FROM credentials c WHERE "+w.String()+
		" ORDER BY c.expires_at, c.id LIMIT "+strconv.Itoa(q.Limit+1), s.dialect.Once(w.args)...)
	if err != nil {
		return page.Page[credential.Credential]{}, broken("listing credentials that end", err)
	}
	return page.Cut(rows, q.Limit, func(c credential.Credential) page.Cursor { return page.Cursor{Time: c.ExpiresAt, ID: c.ID} }), nil
}
