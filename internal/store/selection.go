package store

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/revocation"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// selecting gives the condition on agents a that a selector makes at a moment.
func selecting(organization uuid.UUID, o revocation.Order, now time.Time) where {
	w, sel := where{}, o.Selector
	w.add("a.organization_id = $?", organization)
	w.terms = append(w.terms, "a.status <> 'archived'")
	w.addText("a.owner = $?", sel.Owner)
	w.addText("a.agent_type = $?", sel.AgentType)
	w.addText("a.deployment_env = $?", sel.DeploymentEnv)
	if sel.Capability != "" {
		w.add("a.id IN (SELECT k.agent_id FROM agent_capabilities k WHERE k.organization_id = $1 AND k.capability = $?)", sel.Capability)
	}
	if len(sel.AgentIDs) > 0 {
		places := make([]string, len(sel.AgentIDs))
		for i, id := range sel.AgentIDs {
			places[i] = w.arg(id)
		}
		w.terms = append(w.terms, "a.id IN ("+strings.Join(places, ",")+")")
	}
	if !sel.IssuedBefore.IsZero() && o.Action != revocation.Tokens {
		w.terms = append(w.terms, "EXISTS (SELECT 1 FROM credentials c WHERE c.agent_id = a.id AND c.revoked_at IS NULL AND c.created_at < "+
			w.arg(sel.IssuedBefore)+" AND (c.expires_at IS NULL OR c.expires_at > "+w.arg(now)+"))")
	}
	return w
}

// changing keeps the agents that an action changes something of; status is what says
// where an agent stands.
func changing(w where, o revocation.Order, status string) where {
	names := make([]string, 0, 2)
	for _, status := range o.Action.From() {
		names = append(names, "'"+string(status)+"'")
	}
	w.terms = append(slices.Clip(w.terms), status+" IN ("+strings.Join(names, ", ")+")")
	w.args = slices.Clip(w.args)
	if o.Action == revocation.Tokens && !o.Selector.IssuedBefore.IsZero() {
		w.add("(a.tokens_valid_after IS NULL OR a.tokens_valid_after < $?)", o.Selector.IssuedBefore)
	}
	return w
}

// arg binds one more value and gives what stands for it.
func (w *where) arg(value any) string {
	w.args = append(w.args, value)
	return "$" + strconv.Itoa(len(w.args))
}

// StartRevocation decides for every agent that an order means and changes.
func (s *Store) StartRevocation(ctx context.Context, r revocation.Start, accept revocation.Accept) (revocation.Job, error) {
	return s.begin(ctx, r, accept, func(ctx context.Context, tx *sql.Tx, j *revocation.Job) (scope.Set, error) {
		meant := selecting(j.OrganizationID, j.Order, j.CreatedAt)
		if err := s.row(ctx, tx, "SELECT count(*) FROM agents a WHERE "+meant.String(), s.dialect.Once(meant.args)...).Scan(&j.Matched); err != nil {
			return nil, broken("counting the agents that are meant", err)
		}
		since := j.CreatedAt
		if j.Action == revocation.Tokens && !j.Selector.IssuedBefore.IsZero() {
			since = j.Selector.IssuedBefore
		}
		open, err := s.olderOpen(ctx, tx, *j)
		if err != nil {
			return nil, err
		}
		// Where nothing is open, what is written is how it is.
		status, revision := "a.status", "a.revision"
		if open {
			status, revision = decidedStatus, decidedRevision
		}
		return nil, s.decide(ctx, tx, j, since, revision, "agents a", changing(meant, j.Order, status))
	})
}

// UndoRevocation decides for the agents that a suspension left as they are.
func (s *Store) UndoRevocation(ctx context.Context, id uuid.UUID, r revocation.Start, accept revocation.Accept) (revocation.Job, error) {
	return s.begin(ctx, r, accept, func(ctx context.Context, tx *sql.Tx, j *revocation.Job) (scope.Set, error) {
		undone, err := s.job(ctx, tx, j.OrganizationID, id)
		if err != nil {
			return nil, err
		}
		if err := undoable(undone, j.CreatedAt); err != nil {
			return nil, err
		}
		j.Undoes, j.Matched = id, undone.Changed
		if _, err := s.exec(ctx, tx, "UPDATE revocations SET undone_by = $1 WHERE place = $2", j.ID, undone.Place); err != nil {
			return nil, broken("undoing a revocation", err)
		}
		var w where
		w.add("u.place = $?", undone.Place)
		w.terms = append(w.terms, "u.revision = "+decidedRevision, decidedStatus+" = 'suspended'")
		if err := s.decide(ctx, tx, j, j.CreatedAt, decidedRevision, "revocation_agents u JOIN agents a ON a.id = u.agent_id", w); err != nil {
			return nil, err
		}
		return s.brought(ctx, tx, *j)
	})
}

// undoable says why a job cannot be undone (CONFLICT).
func undoable(j revocation.Job, now time.Time) error {
	conflict := func(message string) error { return fault.New(fault.Conflict, fault.CodeConflict, message) }
	switch {
	case j.Action != revocation.Suspend:
		return conflict("only a suspension can be undone")
	case !j.Completed():
		return conflict("the revocation is still being written; undo it when it is completed")
	case j.UndoneBy != uuid.Nil:
		return conflict("the revocation has been undone already")
	case now.After(j.CompletedAt.Add(revocation.UndoWithin)):
		return conflict("the revocation was completed more than 30 days ago; reactivate its agents one by one")
	}
	return nil
}

// beginPatience bounds the one transaction that decides for all agents; what a million of
// them takes is well within it.
const beginPatience = time.Minute

// begin makes a job take effect. choose decides for the agents, and gives the management
// scopes that they would get back.
func (s *Store) begin(ctx context.Context, r revocation.Start, accept revocation.Accept,
	choose func(ctx context.Context, tx *sql.Tx, j *revocation.Job) (scope.Set, error),
) (revocation.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, beginPatience)
	defer cancel()
	var j revocation.Job
	err := s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.claim(ctx, tx, r.ID); err != nil {
			return err
		}
		if err := s.lock(ctx, tx); err != nil {
			return err
		}
		j = revocation.Job{ID: r.ID, OrganizationID: r.OrganizationID, Order: r.Order, By: r.By, CreatedAt: r.Now(), Term: 1, Holder: r.Holder}
		if err := s.row(ctx, tx, "SELECT coalesce(max(place), 0) + 1 FROM revocations").Scan(&j.Place); err != nil {
			return broken("finding a place for a revocation", err)
		}
		brings, err := choose(ctx, tx, &j)
		if err != nil {
			return err
		}
		event, err := accept(&j, brings)
		if err != nil {
			return err
		}
		if _, err := s.exec(ctx, tx, `INSERT INTO revocations (place, id, organization_id, action, selector, reason, actor_type, actor_id, request_id, source_ip,
			matched, changed, created_at, undoes, receipt, term, holder) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17)`,
			j.Place, j.ID, j.OrganizationID, string(j.Action), j.Selector.String(), j.Reason, j.By.Actor.Type, j.By.Actor.ID, j.By.RequestID, j.By.SourceIP,
			j.Matched, j.Changed, j.CreatedAt, j.Undoes, j.Receipt, j.Term, j.Holder); err != nil {
			return broken("storing a revocation", err)
		}
		if err := s.raise(ctx, tx); err != nil {
			return err
		}
		return s.appendStarted(ctx, tx, &j, event, r)
	})
	return j, err
}

// appendStarted appends the event of a job that takes effect, and writes the job at once
// where it is small and nothing older has still to be written.
func (s *Store) appendStarted(ctx context.Context, tx *sql.Tx, j *revocation.Job, event audit.Event, r revocation.Start) error {
	older, err := s.olderOpen(ctx, tx, *j)
	if err != nil {
		return err
	}
	events := []audit.Event{event}
	if j.Changed <= r.Inline && !older {
		written, err := s.advance(ctx, tx, j, int(r.Inline)+1, j.CreatedAt)
		if err != nil {
			return err
		}
		events = append(events, written...)
	}
	return s.append(ctx, tx, events...)
}

// olderOpen reports whether a job that took effect before is still being written: what
// that one decided goes first.
func (s *Store) olderOpen(ctx context.Context, tx *sql.Tx, j revocation.Job) (bool, error) {
	var n int64
	if err := s.row(ctx, tx, "SELECT count(*) FROM revocations r WHERE r.completed_at IS NULL AND r.place < $1", j.Place).Scan(&n); err != nil {
		return false, broken("looking for older revocations", err)
	}
	return n > 0, nil
}

// decide notes what a job decides for the agents a of a condition. Tokens may carry a
// time ahead of this node's clock, but never ahead of when their agent got the last.
func (s *Store) decide(ctx context.Context, tx *sql.Tx, j *revocation.Job, since time.Time, revision, from string, w where) error {
	place := strconv.FormatInt(j.Place, 10)
	// In the order in which the agents and most of their indexes lie.
	n, err := s.exec(ctx, tx, "INSERT INTO revocation_agents (place, n, agent_id, becomes, since, revision) SELECT "+place+
		", row_number() OVER (ORDER BY a.created_at, a.id), a.id, '"+string(j.Action.Becomes())+"', "+strconv.FormatInt(since.UnixMicro(), 10)+
		", "+revision+" + 1 FROM "+from+" WHERE "+w.String(), s.dialect.Once(w.args)...)
	if err != nil {
		return broken("deciding for agents", err)
	}
	j.Changed = n
	j.Matched = max(j.Matched, n)
	if j.Action == revocation.Reactivate || !since.Equal(j.CreatedAt) {
		return nil
	}
	ahead := giving("id uuid", "since bigint")
	_, err = list(ctx, s, tx, func(row scanner) (none struct{}, err error) {
		var (
			id uuid.UUID
			at time.Time
		)
		err = row.Scan(&id, when{&at})
		ahead.add(id, at.UnixMicro()+1)
		return none, err
	}, "SELECT agent_id, max(time) FROM audit_events WHERE organization_id = $1 AND action = $2 AND time >= $3 AND outcome = $4 GROUP BY agent_id",
		j.OrganizationID, string(audit.TokenIssued), since, string(audit.Success))
	if err != nil {
		return broken("looking for tokens of other clocks", err)
	}
	for chunk := range ahead.chunks(most) {
		clause, args := s.with(chunk)
		if _, err := s.exec(ctx, tx, clause+`UPDATE revocation_agents SET since = given.since FROM given
			WHERE revocation_agents.place = `+place+" AND revocation_agents.agent_id = given.id", args...); err != nil {
			return broken("deciding for tokens of other clocks", err)
		}
	}
	return nil
}

// brought gives the management scopes that the agents of a job hold.
func (s *Store) brought(ctx context.Context, tx *sql.Tx, j revocation.Job) (scope.Set, error) {
	w := where{}
	w.add("k.organization_id = $?", j.OrganizationID)
	names := make([]string, 0, len(scope.Management()))
	for _, name := range scope.Management() {
		names = append(names, w.arg(name))
	}
	all, err := list(ctx, s, tx, func(row scanner) (name string, err error) { err = row.Scan(&name); return name, err },
		"SELECT DISTINCT k.capability FROM agent_capabilities k JOIN revocation_agents p ON p.place = "+strconv.FormatInt(j.Place, 10)+
			" AND p.agent_id = k.agent_id WHERE "+w.String()+" AND k.capability IN ("+strings.Join(names, ",")+")", s.dialect.Once(w.args)...)
	if err != nil {
		return nil, broken("reading the scopes of agents", err)
	}
	return scope.New(all...), nil
}
