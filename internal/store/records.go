package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

// AppendRecords writes the records whose basis holds, and marks their agents and
// credentials as used, in one transaction.
func (s *Store) AppendRecords(ctx context.Context, records []audit.Record) (audit.Batch, error) {
	var done audit.Batch
	err := s.pipeline(ctx, s.locking(), func(ctx context.Context, counter int64, ask Ask) ([]Statement, error) {
		stale, err := s.stale(ctx, ask, records, counter)
		if err != nil {
			return nil, err
		}
		done = audit.Batch{Counter: counter, Stale: stale}
		events := make([]audit.Event, 0, len(records))
		for i, r := range records {
			if !stale[i] {
				events = append(events, r.Event)
			}
		}
		return append(s.appending(events), s.touching(records, stale)...), nil
	})
	return done, err
}

// stale finds the records whose basis no longer holds. Where the counter has not
// moved since a basis was read, nothing can have changed.
func (s *Store) stale(ctx context.Context, ask Ask, records []audit.Record, counter int64) (map[int]bool, error) {
	var doubtful []uuid.UUID
	for _, r := range records {
		if r.Basis != nil && r.Basis.Counter != counter {
			doubtful = append(doubtful, r.Basis.CredentialID)
		}
	}
	if len(doubtful) == 0 {
		return nil, nil
	}
	current, err := s.revisions(ctx, ask, doubtful)
	if err != nil {
		return nil, err
	}
	stale := map[int]bool{}
	for i, r := range records {
		if r.Basis == nil || r.Basis.Counter == counter {
			continue
		}
		now, ok := current[r.Basis.CredentialID]
		if !ok || now.agent != r.Basis.AgentRevision || now.credential != r.Basis.CredentialRevision {
			stale[i] = true
		}
	}
	return stale, nil
}

// touching gives what notes the last use of each agent and credential once per batch.
func (s *Store) touching(records []audit.Record, stale map[int]bool) []Statement {
	agents, credentials := lastUse{}, lastUse{}
	for i, r := range records {
		if r.Basis != nil && !stale[i] && r.Event.Outcome == audit.Success {
			agents.note(r.Basis.AgentID, r.Event.Time)
			credentials.note(r.Basis.CredentialID, r.Event.Time)
		}
	}
	return append(s.notingUse("agents", "last_auth_at", agents), s.notingUse("credentials", "last_used_at", credentials)...)
}

func scanEvent(row scanner) (audit.Event, error) {
	var (
		sequence int64
		body     []byte
	)
	if err := row.Scan(&sequence, &body); err != nil {
		return audit.Event{}, err
	}
	e, err := audit.Decode(body)
	e.Sequence = sequence
	return e, err
}

// Event gives one event of the organization. Its id tells its time, and so the
// partition it lies in.
func (s *Store) Event(ctx context.Context, organization, id uuid.UUID) (audit.Event, error) {
	e, err := scanEvent(s.row(ctx, s.read, "SELECT sequence, body FROM audit_events WHERE id = $1 AND time = $2 AND organization_id = $3",
		id, audit.TimeOf(id), organization))
	if errors.Is(err, sql.ErrNoRows) {
		return e, fault.New(fault.NotFound, fault.CodeNotFound, "there is no such audit event")
	}
	if err != nil {
		return e, broken("reading an audit event", err)
	}
	return e, nil
}

// Events lists an organization's events, newest first.
func (s *Store) Events(ctx context.Context, organization uuid.UUID, f audit.Filter, q page.Query) (page.Page[audit.Event], error) {
	w := where{}
	w.add("organization_id = $?", organization)
	if f.AgentID != uuid.Nil {
		w.add("agent_id = $?", f.AgentID)
	}
	w.addText("actor_id = $?", f.ActorID)
	w.addText("action = $?", string(f.Action))
	w.addText("outcome = $?", string(f.Outcome))
	w.within(f.From, f.To)
	w.after("time", "id", q.After)
	rows, err := listed(ctx, s, scanEvent,
		"SELECT sequence, body FROM audit_events WHERE "+w.String()+" ORDER BY time DESC, id DESC LIMIT "+strconv.Itoa(q.Limit+1), s.dialect.Once(w.args)...)
	if err != nil {
		return page.Page[audit.Event]{}, broken("listing audit events", err)
	}
	return page.Cut(rows, q.Limit, func(e audit.Event) page.Cursor { return page.Cursor{Time: e.Time, ID: e.ID} }), nil
}

// StoredEvents gives the events of a part of the log as they are stored, in order. The
// part is read by its sequence, and what is wanted of it is picked then: another index
// would lead through all that an organization has, for every part again.
func (s *Store) StoredEvents(ctx context.Context, r audit.Part) ([]audit.Stored, error) {
	w := where{args: []any{r.After, r.UpTo, r.UpTo - r.After}}
	if r.Organization != uuid.Nil {
		w.add("organization_id = $?", r.Organization)
	}
	w.within(r.From, r.To)
	wanted := ""
	if len(w.terms) > 0 {
		wanted = " WHERE " + w.String()
	}
	events, err := listed(ctx, s, func(row scanner) (e audit.Stored, err error) {
		err = row.Scan(&e.Sequence, &e.Body)
		return e, err
	}, `SELECT sequence, body FROM (SELECT sequence, organization_id, time, body FROM audit_events WHERE sequence > $1 AND sequence <= $2
		ORDER BY sequence LIMIT $3) AS part`+wanted+" ORDER BY sequence", s.dialect.Once(w.args)...)
	if err != nil {
		return nil, broken("reading a part of the audit log", err)
	}
	return events, nil
}

// where builds a conjunction; $? stands for the next parameter.
type where struct {
	terms []string
	args  []any
}

func (w *where) add(term string, arg any) {
	w.args = append(w.args, arg)
	w.terms = append(w.terms, strings.Replace(term, "$?", "$"+strconv.Itoa(len(w.args)), 1))
}

func (w *where) addText(term, arg string) {
	if arg != "" {
		w.add(term, arg)
	}
}

// within keeps the rows of a time.
func (w *where) within(from, to time.Time) {
	if !from.IsZero() {
		w.add("time >= $?", from)
	}
	if !to.IsZero() {
		w.add("time < $?", to)
	}
}

// after keeps the rows that follow the cursor in a descending list.
func (w *where) after(timeColumn, idColumn string, c page.Cursor) {
	if c.IsZero() {
		return
	}
	w.args = append(w.args, c.Time, c.ID)
	n := len(w.args)
	w.terms = append(w.terms, "("+timeColumn+", "+idColumn+") < ($"+strconv.Itoa(n-1)+", $"+strconv.Itoa(n)+")")
}

// String gives the condition.
func (w *where) String() string { return strings.Join(w.terms, " AND ") }
