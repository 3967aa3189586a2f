package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
)

// leastVersion is PostgreSQL 14, as the server itself numbers it.
const leastVersion = 140_000

// Survey looks at the database as the server's role; it makes and migrates nothing.
// What the arguments but the URL mean is said at store.Vitals.
func Survey(ctx context.Context, url secret.Value, standard int64, grace time.Duration, now func() time.Time) (store.Survey, error) {
	var s store.Survey
	pool, err := connect(ctx, url, statementTimeout)
	if err != nil {
		return s, err
	}
	defer pool.Close()
	db := stdlib.OpenDBFromPool(pool)
	p, err := provider(db)
	if err != nil {
		return s, err
	}
	s.Newest = newest(p)
	if s.Schema, err = store.SchemaOf(ctx, db, noTable); err != nil {
		return s, fmt.Errorf("reading the version of the schema: %w", err)
	}
	err = errors.Join(drift(ctx, db, now, &s), frail(ctx, db, &s), archive(ctx, db, &s), excess(ctx, db, &s))
	if err == nil && s.Schema == s.Newest {
		s.Vitals, err = store.New(db, db, 1, dialect{}).Vitals(ctx, standard, grace, now())
	}
	return s, err
}

func newest(p *goose.Provider) int64 {
	sources := p.ListSources()
	return sources[len(sources)-1].Version
}

func noTable(err error) bool { return code(err) == undefinedTable }

// drift compares the clocks in the middle of the quickest of some questions.
func drift(ctx context.Context, db *sql.DB, now func() time.Time, s *store.Survey) error {
	const questions = 3
	quickest := time.Duration(-1)
	for range questions {
		var theirs time.Time
		before := now()
		if err := db.QueryRowContext(ctx, "SELECT clock_timestamp()").Scan(&theirs); err != nil {
			return fmt.Errorf("reading the database's clock: %w", err)
		}
		if took := now().Sub(before); quickest < 0 || took < quickest {
			quickest, s.Drift = took, theirs.Sub(before.Add(took/2))
		}
	}
	return nil
}

// frail reads the settings that durability rests on.
func frail(ctx context.Context, db *sql.DB, s *store.Survey) error {
	var version int
	var fsync, pages, commit string
	err := db.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::integer, current_setting('fsync'),
		current_setting('full_page_writes'), current_setting('synchronous_commit')`).Scan(&version, &fsync, &pages, &commit)
	if err != nil {
		return fmt.Errorf("reading the database's settings: %w", err)
	}
	for _, one := range []struct {
		bad  bool
		text string
	}{
		{version < leastVersion, fmt.Sprintf("PostgreSQL %d is older than 14", version/10_000)},
		{fsync != "on", "fsync is off: a power cut loses, or breaks, what was committed"},
		{pages != "on", "full_page_writes is off: a power cut may break pages"},
		{commit == "off", "synchronous_commit is off: a crash loses tokens and changes that were answered for"},
	} {
		if one.bad {
			s.Frail = append(s.Frail, one.text)
		}
	}
	return nil
}

func archive(ctx context.Context, db *sql.DB, s *store.Survey) error {
	var at, failed sql.NullTime
	err := db.QueryRowContext(ctx, "SELECT current_setting('archive_mode') <> 'off', last_archived_time, last_failed_time FROM pg_stat_archiver").Scan(&s.On, &at, &failed)
	if err != nil {
		return fmt.Errorf("reading how the log is archived: %w", err)
	}
	s.At, s.FailedAt = at.Time, failed.Time
	return nil
}

// excess asks what the role may do; a superuser may do all of it.
func excess(ctx context.Context, db *sql.DB, s *store.Survey) error {
	var role string
	var super, roles, databases, bypass bool
	err := db.QueryRowContext(ctx, "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = current_user").
		Scan(&role, &super, &roles, &databases, &bypass)
	if err != nil {
		return fmt.Errorf("reading the rights of the role: %w", err)
	}
	note := func(bad bool, text string) {
		if bad {
			s.Excess = append(s.Excess, fmt.Sprintf("the role %q %s", role, text))
		}
	}
	if super {
		note(true, "is a superuser: it may change the record and everything else")
		return nil
	}
	note(roles, "may make roles")
	note(databases, "may make databases")
	note(bypass, "may replicate, or read past row security")
	if s.Schema == 0 {
		return nil
	}
	var owner, changes, makes bool
	err = db.QueryRowContext(ctx, `SELECT pg_has_role(c.relowner, 'MEMBER'), has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER'), has_schema_privilege(c.relnamespace, 'CREATE')
		FROM pg_class c WHERE c.oid = to_regclass('public.audit_events')`).Scan(&owner, &changes, &makes)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("reading the rights of the role: %w", err)
	}
	if owner {
		note(true, "owns the record, and so may drop the triggers that keep it")
		return nil
	}
	note(changes, "has the right to change or delete events")
	note(makes, "may make tables and functions in the schema")
	return nil
}
