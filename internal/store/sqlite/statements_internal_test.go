package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
)

// kept opens one connection and gives what it keeps, too.
func kept(t *testing.T) (*sql.DB, func() int) {
	t.Helper()
	db, err := open(dsn(filepath.Join(t.TempDir(), "db"), "immediate", writerCache, "query_only(0)"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	db.SetMaxOpenConns(1)
	run(t, db, "CREATE TABLE things (n INTEGER PRIMARY KEY, name TEXT UNIQUE)")
	return db, func() (n int) {
		t.Helper()
		c, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Raw(func(inner any) error { n = len(inner.(*conn).idle); return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
}

type runner interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func run(t *testing.T, db runner, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func TestAStatementIsKeptAndServesAgain(t *testing.T) {
	db, idle := kept(t)
	before := idle()
	for n := range 3 {
		run(t, db, "INSERT INTO things (n) VALUES (?)", n)
		var count int
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM things").Scan(&count); err != nil || count != n+1 {
			t.Fatalf("count = %d, %v; want %d", count, err, n+1)
		}
	}
	if n := idle() - before; n != 2 {
		t.Errorf("%d statements are kept for two queries", n)
	}
}

func TestAStatementInUseServesNobodyElse(t *testing.T) {
	db, _ := kept(t)
	run(t, db, "INSERT INTO things (n) VALUES (1), (2)")
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	const query = "SELECT n FROM things ORDER BY n"
	outer, err := tx.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer outer.Close()
	var pairs []string
	for outer.Next() {
		var a, b int
		if err := outer.Scan(&a); err != nil {
			t.Fatal(err)
		}
		if err := tx.QueryRowContext(t.Context(), query).Scan(&b); err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, fmt.Sprint(a, b))
	}
	if err := outer.Err(); err != nil || fmt.Sprint(pairs) != "[1 1 2 1]" {
		t.Errorf("read %v, %v; want each row of the outer, and the first of the inner", pairs, err)
	}
}

func TestAStatementThatFailedIsNotKept(t *testing.T) {
	db, idle := kept(t)
	const query = "INSERT INTO things (n, name) VALUES (?, ?)"
	run(t, db, query, 1, "a")
	before := idle()
	if _, err := db.ExecContext(t.Context(), query, 2, "a"); !(dialect{}).IsUniqueViolation(err) {
		t.Fatalf("a name that is taken gives %v", err)
	}
	if after := idle(); after != before-1 {
		t.Errorf("%d statements are kept, and before the failure %d", after, before)
	}
	run(t, db, query, 2, "b")
}

func TestAStatementOutlivesAChangeOfTheSchema(t *testing.T) {
	db, _ := kept(t)
	run(t, db, "INSERT INTO things (n) VALUES (1)")
	for range 2 {
		var n int
		if err := db.QueryRowContext(t.Context(), "SELECT n FROM things").Scan(&n); err != nil {
			t.Fatal(err)
		}
		run(t, db, "DROP INDEX IF EXISTS by_name")
		run(t, db, "CREATE INDEX by_name ON things (name, n)")
	}
}

func TestNoMoreStatementsAreKeptThanAllowed(t *testing.T) {
	db, idle := kept(t)
	for n := range 2 * maxStatements {
		run(t, db, fmt.Sprintf("INSERT INTO things (n) VALUES (%d)", n))
		if n%50 == 0 && idle() > maxStatements {
			t.Fatalf("%d statements are kept", idle())
		}
	}
}

func TestRowsLeftUnreadHoldUpNoWriter(t *testing.T) {
	db, _ := kept(t)
	run(t, db, "INSERT INTO things (n) VALUES (1), (2), (3)")
	for range 2 {
		var n int
		if err := db.QueryRowContext(t.Context(), "SELECT n FROM things").Scan(&n); err != nil {
			t.Fatal(err)
		}
		run(t, db, "DROP TABLE IF EXISTS others") // refused while a statement reads
		run(t, db, "CREATE TABLE others (n)")
	}
}
