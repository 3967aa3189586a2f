package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Dialect is what engines differ in.
type Dialect interface {
	// Rewrite turns a query with $n parameters into the engine's form.
	Rewrite(query string) string
	// Time gives the value to bind for a time; the zero time is NULL.
	Time(t time.Time) any
	// IsUniqueViolation reports whether err says that a unique key is taken.
	IsUniqueViolation(err error) bool
	// Retryable reports whether the engine asks for the transaction to be done again;
	// then none of it was written.
	Retryable(err error) bool
	// Sound reports what is wrong with the database as a whole, such as a file that is
	// no longer the one that was opened; nil where nothing is.
	Sound() error
	// ForUpdate is what a SELECT ends with to lock what it reads.
	ForUpdate() string
	// Brief gives the context of a statement that touches a few rows. An engine that is
	// never long about those need not be ready to break one off, which costs it more
	// than the statement.
	Brief(ctx context.Context) context.Context
	// Once gives what to bind to a query whose plan is to be made for these arguments
	// alone, as the best way through a list differs with what is asked for.
	Once(args []any) []any
	// Rows gives a query for rows whose values are bound, and what to bind to it from
	// $1 on.
	Rows(columns []Column) (query string, args []any)
	// Drop gives the statements that delete events, all of them or with an error none.
	Drop(d Deletion) []Statement
}

// Store implements the stores of all domain packages on one database.
type Store struct {
	// write begins transactions that may write; read serves all else.
	write, read *sql.DB
	// lists bounds how many connections long lists may hold, so that what every
	// request needs always finds one.
	lists   chan struct{}
	dialect Dialect
	probe   probe
}

// New makes a store on two handles of one database, which may be the same. lists
// is how many lists may be read at a time, less than read has connections.
func New(write, read *sql.DB, lists int, d Dialect) *Store {
	return &Store{write: write, read: read, lists: make(chan struct{}, lists), dialect: d}
}

// Close closes the database.
func (s *Store) Close() error { return errors.Join(s.read.Close(), s.write.Close()) }

// patience is how long a caller who sets no deadline waits for the database.
const patience = 10 * time.Second

// bounded gives a call a deadline where it has none: whatever the database does, no
// call waits for ever.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, patience)
}

// querier is a transaction or a handle.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (s *Store) exec(ctx context.Context, q querier, query string, args ...any) (int64, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	res, err := q.ExecContext(ctx, s.dialect.Rewrite(query), s.bind(args)...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (s *Store) row(ctx context.Context, q querier, query string, args ...any) scanner {
	ctx, cancel := bounded(ctx)
	if ctx.Err() != nil {
		cancel()
		return noRow{context.Cause(ctx)}
	}
	return oneRow{q.QueryRowContext(s.dialect.Brief(ctx), s.dialect.Rewrite(query), s.bind(args)...), cancel}
}

// oneRow ends its context when it has been scanned.
type oneRow struct {
	*sql.Row
	cancel context.CancelFunc
}

// Scan reads the row.
func (r oneRow) Scan(dest ...any) error {
	defer r.cancel()
	return r.Row.Scan(dest...)
}

// noRow is a row that was not asked for any more.
type noRow struct{ err error }

// Scan says why.
func (r noRow) Scan(...any) error { return r.err }

// list scans every row of a query.
func list[T any](ctx context.Context, s *Store, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := q.QueryContext(ctx, s.dialect.Rewrite(query), s.bind(args)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// listPatience bounds one long list.
const listPatience = 5 * time.Second

// listed is list for what may be long.
func listed[T any](ctx context.Context, s *Store, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, listPatience)
	defer cancel()
	select {
	case s.lists <- struct{}{}:
		defer func() { <-s.lists }()
	case <-ctx.Done():
		return nil, fmt.Errorf("too many lists are being read: %w", context.Cause(ctx))
	}
	return list(ctx, s, s.read, scan, query, args...)
}

type scanner interface{ Scan(dest ...any) error }

func (s *Store) bind(args []any) []any {
	for i, arg := range args {
		switch v := arg.(type) {
		case time.Time:
			args[i] = s.dialect.Time(v)
		case uuid.UUID:
			if v == uuid.Nil {
				args[i] = nil
			}
		}
	}
	return args
}

// maxAttempts is how often a transaction is done that the engine asks to do again.
const maxAttempts = 4

// transact runs fn in one transaction, again where the engine asks for it. A fault
// that fn returns is returned as it is; anything else is a failure of the database
// and becomes UNAVAILABLE. A connection that is lost is no reason to do it again: the
// commit may have come through.
func (s *Store) transact(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return s.again(ctx, func(ctx context.Context) error { return s.once(ctx, fn) })
}

// again does something again where the engine asks for it.
func (s *Store) again(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := do(ctx)
		if err == nil || attempt == maxAttempts || !s.dialect.Retryable(err) {
			return err
		}
	}
}

func (s *Store) once(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fault.UnavailableBecause(fmt.Errorf("beginning a transaction: %w", err))
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	if err := fn(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fault.UnavailableBecause(fmt.Errorf("committing: %w", err))
	}
	return nil
}

// lock takes the lock that every transaction on agents, credentials and keys takes
// first, so that no two wait for each other.
func (s *Store) lock(ctx context.Context, tx *sql.Tx) error {
	var counter int64
	if err := s.row(ctx, tx, s.locking().Query).Scan(&counter); err != nil {
		return broken("reading the change counter", err)
	}
	return nil
}

// locking gives what takes that lock and reads the change counter.
func (s *Store) locking() Statement {
	return Statement{Query: "SELECT value FROM change_counter" + s.dialect.ForUpdate()}
}

// raise raises the change counter: every cached row must prove itself anew.
func (s *Store) raise(ctx context.Context, tx *sql.Tx) error {
	if _, err := s.exec(ctx, tx, "UPDATE change_counter SET value = value + 1"); err != nil {
		return broken("raising the change counter", err)
	}
	return nil
}

// Counter reads the change counter.
func (s *Store) Counter(ctx context.Context) (int64, error) {
	var n int64
	err := s.row(ctx, s.read, "SELECT value FROM change_counter").Scan(&n)
	if err != nil {
		return 0, broken("reading the change counter", err)
	}
	return n, nil
}

// broken makes the fault for a database that failed while doing something.
func broken(doing string, err error) error {
	return fault.UnavailableBecause(fmt.Errorf("%s: %w", doing, err))
}

// when scans a time that may be NULL, from any engine's form.
type when struct{ to *time.Time }

// Scan takes microseconds since 1970 or a time.
func (w when) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*w.to = time.Time{}
	case int64:
		*w.to = time.UnixMicro(v).UTC()
	case time.Time:
		*w.to = v.UTC()
	default:
		return fmt.Errorf("a time cannot be read from %T", v)
	}
	return nil
}

// maybeID scans a UUID that may be NULL.
type maybeID struct{ to *uuid.UUID }

// Scan takes what uuid.UUID takes, or nil.
func (m maybeID) Scan(v any) error {
	*m.to = uuid.Nil
	if v == nil {
		return nil
	}
	return m.to.Scan(v)
}
