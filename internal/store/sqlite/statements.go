package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"modernc.org/sqlite"
)

// open gives a handle whose connections keep their prepared statements. The driver
// prepares a statement for every call, which takes longer than to run one that reads a
// counter: a tenth of what an introspection costs.
func open(dsn string) (*sql.DB, error) {
	base, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{base}), nil
}

type connector struct{ driver.Connector }

// Connect opens a connection.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	opened, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := opened.(connection)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a connection of type %T cannot do what is needed", opened), opened.Close())
	}
	return &conn{connection: inner, idle: map[string]statement{}}, nil
}

// connection is what the driver's connections can do.
type connection interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// statement is what its statements can do.
type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// Bounds on what a connection keeps: how many statements, and how long each may be.
const (
	maxStatements = 256
	maxStatement  = 4 << 10
)

// conn keeps the statements that nobody is using. database/sql lets one goroutine at
// a time at a connection and at the rows of it.
type conn struct {
	connection

	idle map[string]statement
}

// Unwrap gives the driver's connection.
func (c *conn) Unwrap() driver.Conn { return c.connection }

// Close closes the statements and the connection.
func (c *conn) Close() error { return errors.Join(c.forget(), c.connection.Close()) }

func (c *conn) forget() error {
	var failed error
	for query, s := range c.idle {
		failed = errors.Join(failed, s.Close())
		delete(c.idle, query)
	}
	return failed
}

// take gives a statement of the query, for the caller alone.
func (c *conn) take(ctx context.Context, query string) (statement, error) {
	if s, ok := c.idle[query]; ok {
		delete(c.idle, query)
		return s, nil
	}
	prepared, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s, ok := prepared.(statement)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a statement of type %T cannot do what is needed", prepared), prepared.Close())
	}
	return s, nil
}

// keep takes a statement back.
func (c *conn) keep(query string, s statement) error {
	if _, another := c.idle[query]; another || len(query) > maxStatement {
		return s.Close()
	}
	if len(c.idle) >= maxStatements {
		if err := c.forget(); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	c.idle[query] = s
	return nil
}

// ExecContext runs a statement that gives no rows.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	result, err := s.ExecContext(ctx, args)
	if err != nil {
		_ = s.Close() // says again what failed
		return nil, err
	}
	return result, c.keep(query, s)
}

// QueryContext runs a statement that gives rows, and keeps it when they are closed.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	found, err := s.QueryContext(ctx, args)
	if err != nil {
		_ = s.Close() // says again what failed
		return nil, err
	}
	return &rows{Rows: found, conn: c, query: query, statement: s}, nil
}

// rows give their statement back.
type rows struct {
	driver.Rows

	conn      *conn
	query     string
	statement statement
}

// Close closes the rows, once.
func (r *rows) Close() error {
	if r.statement == nil {
		return nil
	}
	s := r.statement
	r.statement = nil
	if err := r.Rows.Close(); err != nil {
		_ = s.Close() // says again what failed
		return err
	}
	return r.conn.keep(r.query, s)
}
