package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"git.sentryagent.ai/sentryagent-idp/internal/store"
)

// Survey looks at the database at path through a connection that can only read: it
// makes and migrates nothing. It fails with fs.ErrNotExist where there is no database.
// What the arguments mean is said at store.Vitals.
func Survey(ctx context.Context, path string, standard int64, grace time.Duration, now time.Time) (s store.Survey, err error) {
	if _, err := os.Stat(path); err != nil {
		return s, fmt.Errorf("there is no database: %w", err)
	}
	db, err := readOnly(path)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := provider(db)
	if err != nil {
		return s, err
	}
	s.Newest = newest(p)
	if s.Schema, err = store.SchemaOf(ctx, db, noTable); err != nil || s.Schema != s.Newest {
		return s, err
	}
	s.Vitals, err = store.New(db, db, maxLists, dialect{path: path}).Vitals(ctx, standard, grace, now)
	return s, err
}

func noTable(err error) bool { return strings.Contains(err.Error(), "no such table") }

func newest(p *goose.Provider) int64 {
	sources := p.ListSources()
	return sources[len(sources)-1].Version
}

func provider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, files)
}
