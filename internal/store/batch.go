package store

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
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

// chunks gives the rows in parts of at most n.
func (g given) chunks(n int) iter.Seq[given] {
	return func(yield func(given) bool) {
		for from := 0; from < len(g[0].Values); from += n {
			part := slices.Clone(g)
			for i := range part {
				part[i].Values = part[i].Values[from:min(from+n, len(g[0].Values))]
			}
			if !yield(part) {
				return
			}
		}
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

// Statement is SQL in PostgreSQL's style, with what is bound to it.
type Statement struct {
	Query string
	Args  []any
}

// Scanner is a row that can be read.
type Scanner interface{ Scan(dest ...any) error }

// Ask runs a statement within a transaction and shows each of its rows.
type Ask func(ctx context.Context, st Statement, each func(row Scanner) error) error

// Pipeliner is a Dialect that can send several statements at once.
type Pipeliner interface {
	// Pipeline begins a transaction and reads one number with the first statement in one
	// round trip; writes what decide gives for it, and commits, in another. Where decide
	// fails nothing is written, and its error is returned.
	Pipeline(ctx context.Context, db *sql.DB, first Statement, decide func(ctx context.Context, n int64, ask Ask) ([]Statement, error)) error
}

// pipeline does so by an engine that can, and one statement after the other by any
// other; again where the engine asks for it.
func (s *Store) pipeline(ctx context.Context, first Statement, decide func(ctx context.Context, n int64, ask Ask) ([]Statement, error)) error {
	p, ok := s.dialect.(Pipeliner)
	if !ok {
		return s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
			var n int64
			if err := s.row(ctx, tx, first.Query, first.Args...).Scan(&n); err != nil {
				return broken("beginning a batch", err)
			}
			statements, err := decide(ctx, n, func(ctx context.Context, st Statement, each func(Scanner) error) error {
				_, err := list(ctx, s, tx, func(row scanner) (none struct{}, err error) { return none, each(row) }, st.Query, st.Args...)
				return err
			})
			if err != nil {
				return err
			}
			return s.run(ctx, tx, statements)
		})
	}
	return s.again(ctx, func(ctx context.Context) error {
		err := p.Pipeline(ctx, s.write, first, decide)
		if err == nil || fault.As(err) != nil {
			return err
		}
		return broken("writing a batch", err)
	})
}

// run carries out statements in order.
func (s *Store) run(ctx context.Context, tx *sql.Tx, statements []Statement) error {
	for _, st := range statements {
		if _, err := tx.ExecContext(s.dialect.Brief(ctx), s.dialect.Rewrite(st.Query), s.bind(st.Args)...); err != nil {
			return broken("writing", err)
		}
	}
	return nil
}

// append writes events in order and gives them the next places in the log.
func (s *Store) append(ctx context.Context, tx *sql.Tx, events ...audit.Event) error {
	if len(events) == 0 {
		return nil
	}
	audit.Receive(ctx, events[0])
	if err := s.run(ctx, tx, s.appending(events)); err != nil {
		return fmt.Errorf("appending to the audit log: %w", err)
	}
	return nil
}

// appending gives what writes events in order at the next places in the log.
func (s *Store) appending(events []audit.Event) []Statement {
	if len(events) == 0 {
		return nil
	}
	statements := []Statement{{"UPDATE audit_head SET sequence = sequence + $1", []any{len(events)}}}
	place := -len(events)
	for chunk := range slices.Chunk(events, most) {
		rows := giving("place bigint", "id uuid", "organization_id uuid", "time timestamptz", "agent_id uuid",
			"actor_id text", "action text", "outcome text", "body bytea")
		for _, e := range chunk {
			place++
			rows.add(int64(place), e.ID, e.OrganizationID, e.Time, e.AgentID, e.Actor.ID, string(e.Action), string(e.Outcome), e.Encode())
		}
		clause, args := s.with(rows)
		statements = append(statements, Statement{clause + `INSERT INTO audit_events (sequence, id, organization_id, time, agent_id, actor_id, action, outcome, body)
			SELECT h.sequence + place, id, organization_id, time, agent_id, actor_id, action, outcome, body FROM given CROSS JOIN audit_head h`, args})
	}
	return statements
}

// revisions is what a credential and its agent stand at.
type revisions struct{ agent, credential int64 }

// revisions reads what the credentials stand at now.
func (s *Store) revisions(ctx context.Context, ask Ask, credentials []uuid.UUID) (map[uuid.UUID]revisions, error) {
	current := make(map[uuid.UUID]revisions, len(credentials))
	for chunk := range slices.Chunk(credentials, most) {
		rows := giving("id uuid")
		for _, id := range chunk {
			rows.add(id)
		}
		clause, args := s.with(rows)
		err := ask(ctx, Statement{clause + `SELECT c.id, ` + decidedRevision + `, c.revision FROM given JOIN credentials c ON c.id = given.id JOIN agents a ON a.id = c.agent_id`, args},
			func(row Scanner) error {
				var (
					id uuid.UUID
					r  revisions
				)
				err := row.Scan(&id, &r.agent, &r.credential)
				current[id] = r
				return err
			})
		if err != nil {
			return nil, broken("checking revisions", err)
		}
	}
	return current, nil
}
