package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Bounds on the work of one statement and on waiting for a lock.
const (
	statementTimeout = 10 * time.Second
	lockTimeout      = 5 * time.Second
	connectTimeout   = 5 * time.Second
	migrationTimeout = 10 * time.Minute
)

// ErrSchema says that the database has another schema than this version needs.
var ErrSchema = errors.New("the database does not have the schema of this version")

// Store is the shared store, and what PostgreSQL does in its own way.
type Store struct {
	*store.Store
	db   *sql.DB
	pool *pgxpool.Pool
}

// Open connects to the database, which must have the schema of this version; it
// fails with ErrSchema where it has not. Of several hosts in the URL the one that
// takes writes is used.
func Open(ctx context.Context, url secret.Value) (*Store, error) {
	pool, err := connect(ctx, url, statementTimeout)
	if err != nil {
		return nil, err
	}
	db := stdlib.OpenDBFromPool(pool)
	if err := checkSchema(ctx, db); err != nil {
		pool.Close()
		return nil, err
	}
	s := &Store{Store: store.New(db, db, max(1, int(pool.Config().MaxConns)/2), dialect{}), db: db, pool: pool}
	if err := s.partitions(ctx, time.Now()); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// Close closes every connection.
func (s *Store) Close() error {
	err := s.Store.Close()
	s.pool.Close()
	return err
}

// Maintain also makes the partitions of the record for the days to come.
func (s *Store) Maintain(ctx context.Context, now time.Time) error {
	return errors.Join(s.partitions(ctx, now), s.Store.Maintain(ctx, now))
}

func connect(ctx context.Context, url secret.Value, timeout time.Duration) (*pgxpool.Pool, error) {
	cfg, err := configure(url, timeout)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	return pool, nil
}

// configure says how the pool is made; a statement that takes longer than timeout is
// ended. What the URL says itself goes before what is set here.
func configure(url secret.Value, timeout time.Duration) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url.Reveal())
	if err != nil {
		// The parser repeats the URL, password and all.
		return nil, errors.New("DATABASE_URL: is not a PostgreSQL URL such as postgres://user:password@host:5432/agentidp")
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = connectTimeout
	}
	if cfg.ConnConfig.ValidateConnect == nil {
		cfg.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	for name, value := range map[string]string{
		"application_name": "agentidp", "statement_timeout": milliseconds(timeout), "lock_timeout": milliseconds(lockTimeout), "timezone": "UTC",
		// What is asked for is a page, or a row, of what is mostly in memory: an index
		// that gives it in order is right even where the planner, by default, fears it.
		"random_page_cost": "1.1",
		// Nor is a page worth several processes.
		"max_parallel_workers_per_gather": "0",
	} {
		if _, given := cfg.ConnConfig.RuntimeParams[name]; !given {
			cfg.ConnConfig.RuntimeParams[name] = value
		}
	}
	if !strings.Contains(url.Reveal(), "pool_max_conns=") {
		cfg.MaxConns = max(cfg.MaxConns, int32(4*runtime.GOMAXPROCS(0))) //nolint:gosec // small
	}
	cfg.MaxConnLifetime = 30 * time.Minute
	cfg.MaxConnLifetimeJitter = 5 * time.Minute
	cfg.HealthCheckPeriod = 5 * time.Second
	// After a failover the old primary may come back as a standby: a connection that
	// cannot write is of no use.
	cfg.PrepareConn = func(_ context.Context, conn *pgx.Conn) (bool, error) {
		return conn.PgConn().ParameterStatus("in_hot_standby") != "on", nil
	}
	return cfg, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Migrate brings the database to the newest schema. The URL must be that of the
// schema's owner. Several may call it at once: a lease lets one of them work. role,
// where it is not empty, is the role the server works as; it gets the rights it
// needs, and none to change the record.
func Migrate(ctx context.Context, url secret.Value, role string) error {
	ctx, cancel := context.WithTimeout(ctx, migrationTimeout)
	defer cancel()
	pool, err := connect(ctx, url, migrationTimeout)
	if err != nil {
		return err
	}
	defer pool.Close()
	db := stdlib.OpenDBFromPool(pool)
	locker, err := lock.NewPostgresTableLocker(lock.WithTableLockTimeout(time.Second, uint64(migrationTimeout/time.Second)))
	if err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	provider, err := provider(db, goose.WithLocker(locker))
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	if role == "" {
		return nil
	}
	return grant(ctx, db, role)
}

func provider(db *sql.DB, options ...goose.ProviderOption) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("reading the migrations: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, options...)
	if err != nil {
		return nil, fmt.Errorf("reading the migrations: %w", err)
	}
	return p, nil
}

// checkSchema compares versions without writing, as the server's role may not.
func checkSchema(ctx context.Context, db *sql.DB) error {
	p, err := provider(db)
	if err != nil {
		return err
	}
	newest := newest(p)
	have, err := store.SchemaOf(ctx, db, noTable)
	if err != nil {
		return fmt.Errorf("reading the version of the schema: %w", err)
	}
	if have < newest {
		return fmt.Errorf("%w: it has version %d and %d is needed; run: agentidp migrate", ErrSchema, have, newest)
	}
	return nil
}

// partitionsAhead is how many days have their partition made in advance.
const partitionsAhead = 3

func (s *Store) partitions(ctx context.Context, now time.Time) error {
	for day := range partitionsAhead {
		if _, err := s.db.ExecContext(ctx, "SELECT audit_partition($1::date)", now.UTC().AddDate(0, 0, day).Format(time.DateOnly)); err != nil {
			return fmt.Errorf("making a partition of the record: %w", err)
		}
	}
	return nil
}

// grant gives the server's role what it needs.
func grant(ctx context.Context, db *sql.DB, role string) error {
	name := pgx.Identifier{role}.Sanitize()
	for _, statement := range []string{
		// PostgreSQL 14 lets everybody make tables and functions there.
		"REVOKE CREATE ON SCHEMA " + schema + " FROM PUBLIC",
		"GRANT USAGE ON SCHEMA " + schema + " TO " + name,
		"GRANT SELECT ON ALL TABLES IN SCHEMA " + schema + " TO " + name,
		"GRANT INSERT, UPDATE ON organizations, agents, credentials, credential_uses, signing_keys, audit_streams TO " + name,
		"GRANT INSERT, DELETE ON agent_capabilities, revoked_tokens, idempotency_keys TO " + name,
		"GRANT INSERT, UPDATE, DELETE ON rotation_policies, credential_instances TO " + name,
		"GRANT INSERT, UPDATE ON revocations TO " + name,
		"GRANT INSERT, UPDATE, DELETE ON revocation_agents TO " + name,
		"GRANT UPDATE ON agent_capabilities TO " + name,
		"GRANT UPDATE ON change_counter, audit_head TO " + name,
		"GRANT INSERT ON audit_events, audit_checkpoints TO " + name,
		"GRANT INSERT, UPDATE ON audit_key, audit_tiles TO " + name,
		"GRANT UPDATE ON audit_tree TO " + name,
		"GRANT UPDATE ON audit_clock TO " + name,
		"GRANT EXECUTE ON FUNCTION audit_partition(date), audit_drop, audit_drop_day(date) TO " + name,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("granting the server's role %s its rights: %w", name, err)
		}
	}
	return nil
}

const schema = "public"

// The error codes of PostgreSQL that mean something to us.
const (
	uniqueViolation      = "23505"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	undefinedTable       = "42P01"
)

type dialect struct{}

// Rewrite leaves the query as it is.
func (dialect) Rewrite(query string) string { return query }

// Time is kept as it is.
func (dialect) Time(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC()
}

// IsUniqueViolation looks at the code.
func (dialect) IsUniqueViolation(err error) bool { return code(err) == uniqueViolation }

// Retryable is what the database asks to be done again: nothing was written.
func (dialect) Retryable(err error) bool {
	c := code(err)
	return c == serializationFailure || c == deadlockDetected
}

// ForUpdate locks the rows that are read.
func (dialect) ForUpdate() string { return " FOR UPDATE" }

// Brief keeps the context: the database is somewhere else, and may not answer.
func (dialect) Brief(ctx context.Context) context.Context { return ctx }

// Once has the statement planned anew; one that is prepared gets a plan for all values
// after a few times.
func (dialect) Once(args []any) []any {
	return append([]any{pgx.QueryExecModeCacheDescribe}, args...)
}

func code(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
