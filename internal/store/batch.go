package store

import (
	"bytes"
	"context"
	"database/sql"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

// Column is a column of rows that are given with a statement.
type Column struct {
	Name string
	// Type is its PostgreSQL type, for an engine that wants to know.
	Type   string
	Values []any
}

// given is rows that a statement carries with it: many rows, one statement.
type given []Column

// giving declares the rows' columns, each a name and a type.
func giving(declared ...string) given {
	g := make(given, len(declared))
	for i, d := range declared {
		g[i].Name, g[i].Type, _ = strings.Cut(d, " ")
	}
	return g
}

func (g given) add(values ...any) {
	for i, v := range values {
		g[i].Values = append(g[i].Values, v)
	}
}

// with gives the clause that names the rows "given", and what to bind to it.
func (s *Store) with(g given) (clause string, args []any) {
	names := make([]string, len(g))
	for i := range g {
		names[i] = g[i].Name
		g[i].Values = s.bind(g[i].Values)
	}
	query, args := s.dialect.Rows(g)
	return "WITH given(" + strings.Join(names, ", ") + ") AS (" + query + ") ", args
}

// most is how many rows one statement carries; engines bound its parameters.
const most = 1000

// append writes events in order and gives them the next places in the log.
func (s *Store) append(ctx context.Context, tx *sql.Tx, events ...audit.Event) error {
	if len(events) == 0 {
		return nil
	}
	audit.Receive(ctx, events[0])
	var last int64
	err := s.row(ctx, tx, "UPDATE audit_head SET sequence = sequence + $1 RETURNING sequence", len(events)).Scan(&last)
	if err != nil {
		return broken("taking places in the audit log", err)
	}
	next := last - int64(len(events)) + 1
	for chunk := range slices.Chunk(events, most) {
		rows := giving("sequence bigint", "id uuid", "organization_id uuid", "time timestamptz", "agent_id uuid",
			"actor_id text", "action text", "outcome text", "body bytea")
		for _, e := range chunk {
			rows.add(next, e.ID, e.OrganizationID, e.Time, e.AgentID, e.Actor.ID, string(e.Action), string(e.Outcome), e.Encode())
			next++
		}
		clause, args := s.with(rows)
		if _, err := s.exec(ctx, tx, clause+`INSERT INTO audit_events (sequence, id, organization_id, time, agent_id, actor_id, action, outcome, body)
			SELECT sequence, id, organization_id, time, agent_id, actor_id, action, outcome, body FROM given`, args...); err != nil {
			return broken("appending to the audit log", err)
		}
	}
	return nil
}

// revisions is what a credential and its agent stand at.
type revisions struct{ agent, credential int64 }

// revisions reads what the credentials stand at now.
func (s *Store) revisions(ctx context.Context, tx *sql.Tx, credentials []uuid.UUID) (map[uuid.UUID]revisions, error) {
	current := make(map[uuid.UUID]revisions, len(credentials))
	for chunk := range slices.Chunk(credentials, most) {
		rows := giving("id uuid")
		for _, id := range chunk {
			rows.add(id)
		}
		clause, args := s.with(rows)
		_, err := list(ctx, s, tx, func(row scanner) (none struct{}, err error) {
			var (
				id uuid.UUID
				r  revisions
			)
			err = row.Scan(&id, &r.agent, &r.credential)
			current[id] = r
			return none, err
		}, clause+`SELECT c.id, a.revision, c.revision FROM given JOIN credentials c ON c.id = given.id JOIN agents a ON a.id = c.agent_id`, args...)
		if err != nil {
			return nil, broken("checking revisions", err)
		}
	}
	return current, nil
}

// lastUse is when each agent, or each credential, was used last.
type lastUse map[uuid.UUID]time.Time

func (u lastUse) note(id uuid.UUID, at time.Time) {
	if at.After(u[id]) {
		u[id] = at
	}
}

// saveLastUse notes in a column of a table when its rows were used last; it never
// goes back.
func (s *Store) saveLastUse(ctx context.Context, tx *sql.Tx, table, column string, used lastUse) error {
	// One order, so that two who note the same rows wait for each other only once.
	ordered := slices.SortedFunc(maps.Keys(used), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	for chunk := range slices.Chunk(ordered, most) {
		rows := giving("id uuid", "at timestamptz")
		for _, id := range chunk {
			rows.add(id, used[id])
		}
		clause, args := s.with(rows)
		if _, err := s.exec(ctx, tx, clause+"UPDATE "+table+" SET "+column+" = given.at FROM given WHERE "+table+".id = given.id AND ("+
			column+" IS NULL OR "+column+" < given.at)", args...); err != nil {
			return broken("noting the last use", err)
		}
	}
	return nil
}
