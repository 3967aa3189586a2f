package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"git.sentryagent.ai/sentryagent-idp/internal/store"
)

// rollbackTimeout bounds the giving back of a connection.
const rollbackTimeout = 2 * time.Second

// Pipeline holds the lock that the first statement takes for two round trips, however
// many statements follow: every batch of every node waits for it.
func (dialect) Pipeline(ctx context.Context, db *sql.DB, first store.Statement,
	decide func(ctx context.Context, n int64, ask store.Ask) ([]store.Statement, error),
) error {
	pooled, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer func() { _ = pooled.Close() }() // gives it back
	var failed error
	err = pooled.Raw(func(inner any) error {
		conn, ok := inner.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("a connection of another driver: %T", inner)
		}
		if failed = pipeline(ctx, conn.Conn(), first, decide); failed == nil {
			return nil
		}
		// What is left of the transaction goes, or the connection does.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		if _, err := conn.Conn().Exec(ctx, "ROLLBACK"); err != nil {
			return driver.ErrBadConn
		}
		return nil
	})
	if failed != nil {
		return failed
	}
	return err
}

func pipeline(ctx context.Context, conn *pgx.Conn, first store.Statement,
	decide func(ctx context.Context, n int64, ask store.Ask) ([]store.Statement, error),
) error {
	begin := &pgx.Batch{}
	begin.Queue("BEGIN")
	var n int64
	begin.Queue(first.Query, first.Args...).QueryRow(func(row pgx.Row) error { return row.Scan(&n) })
	if err := conn.SendBatch(ctx, begin).Close(); err != nil {
		return fmt.Errorf("beginning: %w", err)
	}
	statements, err := decide(ctx, n, func(ctx context.Context, st store.Statement, each func(store.Scanner) error) error {
		rows, err := conn.Query(ctx, st.Query, st.Args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := each(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	commit := &pgx.Batch{}
	for _, st := range statements {
		commit.Queue(st.Query, st.Args...)
	}
	commit.Queue("COMMIT")
	results := conn.SendBatch(ctx, commit)
	for range statements {
		if _, err := results.Exec(); err != nil {
			return errors.Join(err, results.Close())
		}
	}
	tag, err := results.Exec()
	if err = errors.Join(err, results.Close()); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	if tag.String() != "COMMIT" {
		return fmt.Errorf("committing: the database answers %s", tag)
	}
	return nil
}
