package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

// AppendRecords writes the records whose basis holds, and notes the use of their
// credentials, in one transaction.
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

// touching gives what notes the last use of each credential, once per batch where it has
// not been noted a moment ago. It never goes back.
func (s *Store) touching(records []audit.Record, stale map[int]bool) []Statement {
	used := map[uuid.UUID]time.Time{}
	for i, r := range records {
		if r.Basis != nil && !r.Basis.Noted && !stale[i] && r.Event.Outcome == audit.Success && r.Event.Time.After(used[r.Basis.CredentialID]) {
			used[r.Basis.CredentialID] = r.Event.Time
		}
	}
	var statements []Statement
	// One order, so that two who note the same rows wait for each other only once.
	ordered := slices.SortedFunc(maps.Keys(used), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	for chunk := range slices.Chunk(ordered, most) {
		rows := giving("id uuid", "at timestamptz")
		for _, id := range chunk {
			rows.add(id, used[id])
		}
		clause, args := s.with(rows)
		statements = append(statements, Statement{clause + `INSERT INTO credential_uses (credential_id, last_used_at) SELECT id, at FROM given WHERE true
			ON CONFLICT (credential_id) DO UPDATE SET last_used_at = excluded.last_used_at WHERE credential_uses.last_used_at < excluded.last_used_at`, args})
	}
	return statements
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
	w.addText("action = $?", string(f.Action))
	w.addText("outcome = $?", string(f.Outcome))
	if f.Outcome != "" && f.Outcome != audit.Success {
		w.terms = append(w.terms, "outcome <> 'success'") // as the index of these says
	}
	w.within(f.From, f.To)
	w.after("time", "id", q.After)
	newest := func(columns string, w where) string {
		return "SELECT " + columns + " FROM audit_events WHERE " + w.String() + " ORDER BY time DESC, id DESC LIMIT " + strconv.Itoa(q.Limit+1)
	}
	// An event of which actor and agent are the same is found by the agent alone.
	const toOthers = "actor_id IS DISTINCT FROM CAST(agent_id AS text)"
	w.addText("actor_id = $?", f.ActorID)
	var query string
	switch self, err := uuid.Parse(f.ActorID); {
	case f.AgentID != uuid.Nil:
		w.add("agent_id = $?", f.AgentID)
		if f.ActorID != "" && f.ActorID != f.AgentID.String() {
			w.terms = append(w.terms, toOthers)
		}
		query = newest("sequence, body", w)
	case f.ActorID == "":
		query = newest("sequence, body", w)
	default:
		others := where{terms: append(slices.Clone(w.terms), toOthers)}
		query = newest("sequence, body", others)
		if err == nil && self.String() == f.ActorID {
			w.add("agent_id = $?", self)
			const columns = "sequence, body, time, id"
			query = "SELECT sequence, body FROM (SELECT * FROM (" + newest(columns, w) + ") AS own UNION ALL SELECT * FROM (" + newest(columns, others) +
				") AS others) AS found ORDER BY time DESC, id DESC LIMIT " + strconv.Itoa(q.Limit+1)
		}
	}
	rows, err := listed(ctx, s, scanEvent, query, s.dialect.Once(w.args)...)
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
	w.past("<", timeColumn, idColumn, c)
}

// beyond keeps the rows that follow the cursor in an ascending list.
func (w *where) beyond(timeColumn, idColumn string, c page.Cursor) {
	w.past(">", timeColumn, idColumn, c)
}

func (w *where) past(order, timeColumn, idColumn string, c page.Cursor) {
	if c.IsZero() {
		return
	}
	w.args = append(w.args, c.Time, c.ID)
	n := len(w.args)
	w.terms = append(w.terms, "("+timeColumn+", "+idColumn+") "+order+" ($"+strconv.Itoa(n-1)+", $"+strconv.Itoa(n)+")")
}

// String gives the condition.
func (w *where) String() string { return strings.Join(w.terms, " AND ") }
