package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"git.sentryagent.ai/sentryagent-idp/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Open opens the database at path, making it and its folder if need be (0600,
// 0700), and migrates it to the newest schema.
func Open(ctx context.Context, path string) (*store.Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the path is the operator's own
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	write, err := open(dsn(path, "immediate", writerCache, "query_only(0)"))
	if err != nil {
		return nil, fmt.Errorf("opening the database: %w", err)
	}
	write.SetMaxOpenConns(1)
	if err := migrate(ctx, write); err != nil {
		return nil, errors.Join(fmt.Errorf("migrating %s: %w", path, err), write.Close())
	}
	read, err := open(dsn(path, "deferred", readerCache, "query_only(1)"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database: %w", err), write.Close())
	}
	readers := maxLists + max(4, runtime.GOMAXPROCS(0))
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	opened, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the database: %w", err), read.Close(), write.Close())
	}
	return store.New(write, read, maxLists, dialect{path: path, opened: opened}), nil
}

// maxLists is how many connections long lists may hold.
const maxLists = 2

// What a connection keeps of the file, in KiB. There are several readers, and what they
// do not keep the system does.
const (
	writerCache = "cache_size(-4000)"
	readerCache = "cache_size(-2000)"
)

func dsn(path, txlock, cache, mode string) string {
	q := url.Values{"_txlock": {txlock}, "_pragma": {
		"busy_timeout(3000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "trusted_schema(0)", cache, "temp_store(MEMORY)", "wal_autocheckpoint(8000)", mode,
	}}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

func migrate(ctx context.Context, db *sql.DB) error {
	provider, err := provider(db)
	if err != nil {
		return err
	}
	// Several may start on one empty folder at once: who comes second finds it done.
	for attempt := 1; ; attempt++ {
		if _, err = provider.Up(ctx); err == nil || attempt == maxMigrations {
			return err
		}
	}
}

// maxMigrations is how often a migration is tried.
const maxMigrations = 10

// dialect is SQLite's, of one file.
type dialect struct {
	path   string
	opened os.FileInfo
}

// Sound sees to it that the file is still the one that was opened: what is written to
// one that was removed is gone when the process ends.
func (d dialect) Sound() error {
	now, err := os.Stat(d.path)
	if err != nil {
		return fmt.Errorf("the database file is gone: %w", err)
	}
	if !os.SameFile(d.opened, now) {
		return fmt.Errorf("%s is not the file that was opened", d.path)
	}
	return nil
}

// Rewrite turns $n into ?n; no query holds a $ for anything else.
func (dialect) Rewrite(query string) string { return strings.ReplaceAll(query, "$", "?") }

// Time is kept as microseconds since 1970.
func (dialect) Time(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// IsUniqueViolation looks at the extended result code.
func (dialect) IsUniqueViolation(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && (e.Code() == lib.SQLITE_CONSTRAINT_UNIQUE || e.Code() == lib.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// Retryable is nothing: the one writer waits for its lock.
func (dialect) Retryable(error) bool { return false }

// ForUpdate is not needed: there is one writer.
func (dialect) ForUpdate() string { return "" }

// Brief takes the deadline away: the driver would start a goroutine to watch it, and
// there is nothing to wait for but the disk. Locks are waited for as long as busy_timeout
// says.
func (dialect) Brief(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

// Once leaves the arguments as they are: a plan does not depend on them.
func (dialect) Once(args []any) []any { return args }

// rangesAtOnce is how many ranges one statement deletes; the engine bounds its
// parameters.
const rangesAtOnce = 1000

// Drop lets the deletion past the triggers, and deletes by sequence, the table's key.
func (dialect) Drop(d store.Deletion) []store.Statement {
	all := []store.Statement{{Query: "INSERT INTO audit_drop (organization_id, before) VALUES ($1, $2)", Args: []any{d.OrganizationID, d.Before}}}
	for chunk := range slices.Chunk(d.Ranges, rangesAtOnce) {
		columns := []store.Column{{Name: "first"}, {Name: "last"}}
		for _, r := range chunk {
			columns[0].Values, columns[1].Values = append(columns[0].Values, r.First), append(columns[1].Values, r.Last)
		}
		query, args := dialect{}.Rows(columns)
		all = append(all, store.Statement{Query: "WITH given(first, last) AS (" + query + `) DELETE FROM audit_events WHERE sequence IN (
			SELECT e.sequence FROM given CROSS JOIN audit_events e WHERE e.sequence BETWEEN given.first AND given.last)`, Args: args})
	}
	return all
}

// Rows is a list of tuples, a parameter to each value. The parameters have no numbers:
// the driver looks up the name of each that has one, by going through all of them.
func (dialect) Rows(columns []store.Column) (query string, args []any) {
	tuple := "(?" + strings.Repeat(",?", len(columns)-1) + ")"
	rows := len(columns[0].Values)
	for row := range rows {
		for _, c := range columns {
			args = append(args, c.Values[row])
		}
	}
	return "VALUES " + tuple + strings.Repeat(","+tuple, rows-1), args
}
