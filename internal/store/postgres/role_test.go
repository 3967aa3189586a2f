package postgres_test

import (
	"database/sql"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
	"git.sentryagent.ai/sentryagent-idp/internal/store/postgres"
	"git.sentryagent.ai/sentryagent-idp/internal/store/storetest"
)

// lesser gives the URL of a migrated database as a role that has no right but
// those that Migrate gives it, and the owner's.
func lesser(t *testing.T) (asRole, asOwner string) {
	t.Helper()
	const role = `server "o'ne"` // a name that must be quoted
	asOwner = server.Database(t)
	exec(t, raw(t, asOwner), `DO $$ BEGIN CREATE ROLE "server ""o'ne""" LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`)
	if err := postgres.Migrate(t.Context(), secret.New(asOwner), role); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(asOwner)
	if err != nil {
		t.Fatal(err)
	}
	return server.URLAs(url.PathEscape(role), strings.TrimPrefix(u.Path, "/")), asOwner
}

// TestTheSuiteAsTheLesserRole runs the suite with the rights that Migrate gives.
func TestTheSuiteAsTheLesserRole(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.Store {
		t.Helper()
		asRole, _ := lesser(t)
		return open(t, asRole).Store
	})
}

func TestTheLesserRoleDoesAllAServerDoes(t *testing.T) {
	asRole, asOwner := lesser(t)
	s, ctx, org, now := open(t, asRole), t.Context(), organization.DefaultID(), time.Now()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	a, c := register(t, s.Store)
	_, err := s.AppendRecords(ctx, []audit.Record{use(a, c)})
	must(err)
	must(s.SaveVerifier(ctx, c.ID, c.Verifier))
	must(s.RevokeToken(ctx, uuid.New(), now, event(now, audit.TokenRevoked, a.ID)))
	must(s.ChangeSigningKeys(ctx, func([]keys.Stored) ([]keys.Stored, audit.Event, error) {
		return []keys.Stored{{KID: "k", Alg: keys.ES256, Sealed: []byte("s"), PublicJWK: []byte("{}"), CreatedAt: now, ActivatesAt: now}}, event(now, audit.KeyRotated, uuid.Nil), nil
	}))
	must(s.ResealSigningKey(ctx, "k", []byte("t")))
	must(s.ChangeCredentials(ctx, org, a.ID, func(_ credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error) {
		live[0].RevokedAt = now
		return live, event(now, audit.CredentialRevoked, a.ID), nil
	}))
	_, err = s.UpdateAgent(ctx, org, a.ID, func(a *agent.Agent) (audit.Event, error) {
		a.Status = agent.Revoked
		return event(now, audit.AgentRevoked, a.ID), nil
	})
	must(err)
	events, err := s.Events(ctx, org, audit.Filter{}, page.Query{Limit: 10})
	must(err)
	if len(events.Items) != 6 {
		t.Errorf("%d events are listed, want 6", len(events.Items))
	}
	must(s.Maintain(ctx, now.AddDate(0, 0, 10)))
	if n := one[int](t, raw(t, asOwner), "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit_events'::regclass AND pg_get_userbyid(c.relowner) = 'owner'"); n != 7 {
		t.Errorf("%d partitions are there and the owner's, want 7", n)
	}
}

// refused wants the statement refused for want of a right. Each runs in a
// transaction that is undone, so that one that is not refused does not hide others.
func refused(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	for i, statement := range statements {
		_, err := tx.ExecContext(t.Context(), statement)
		if i < len(statements)-1 {
			if err != nil {
				t.Errorf("the preparation %s: %v", statement, err)
			}
			continue
		}
		const insufficientPrivilege = "42501"
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != insufficientPrivilege {
			t.Errorf("%s gives %v, want it refused", statement, err)
		}
	}
}

// TestTheLesserRoleCannotChangeTheRecord plays a server that was taken over.
func TestTheLesserRoleCannotChangeTheRecord(t *testing.T) {
	asRole, _ := lesser(t)
	s, db := open(t, asRole), raw(t, asRole)
	register(t, s.Store)
	today := "audit_events_" + time.Now().UTC().Format("20060102")
	for _, table := range []string{"audit_events", today, "audit_events_default", "audit_head", "audit_key", "audit_tree", "audit_tiles", "audit_checkpoints"} {
		refused(t, db, "DELETE FROM "+table)
		refused(t, db, "TRUNCATE "+table)
		refused(t, db, "DROP TABLE "+table)
		refused(t, db, "ALTER TABLE "+table+" DISABLE TRIGGER ALL")
		refused(t, db, "ALTER TABLE "+table+" RENAME TO gone")
		refused(t, db, "ALTER TABLE "+table+" OWNER TO CURRENT_USER")
		refused(t, db, "CREATE RULE r AS ON INSERT TO "+table+" DO INSTEAD NOTHING")
		refused(t, db, "CREATE TRIGGER t BEFORE INSERT ON "+table+" FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()")
	}
	for _, partition := range []string{today, "audit_events_default"} {
		refused(t, db, "UPDATE "+partition+" SET body = ''")
		refused(t, db, "INSERT INTO "+partition+" SELECT * FROM audit_events")
		refused(t, db, "ALTER TABLE audit_events DETACH PARTITION "+partition)
	}
	refused(t, db, "UPDATE audit_events SET body = ''")
	refused(t, db, "GRANT ALL ON audit_events TO CURRENT_USER", "DELETE FROM audit_events") // granting what one has not is a warning
	refused(t, db, "UPDATE audit_head SET sequence = sequence - 1")
	refused(t, db, "UPDATE audit_head SET sequence = sequence")
	refused(t, db, "INSERT INTO audit_head VALUES (7)")
	refusedChangesOfTheTree(t, db)
	refused(t, db, "DROP TRIGGER audit_events_no_change ON audit_events")
	refused(t, db, "DROP FUNCTION audit_refuse() CASCADE")
	refused(t, db, "SET session_replication_role = replica")
	refused(t, db, "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN old; END'")
	refused(t, db, "ALTER FUNCTION audit_partition(date) SET search_path = pg_temp")
	refused(t, db, "CREATE TABLE public.mine (n bigint)")
	refused(t, db, "DELETE FROM agents")
	refused(t, db, "DELETE FROM credentials")
	refused(t, db, "DELETE FROM audit_streams")
	refused(t, db, "TRUNCATE revoked_tokens")
	refused(t, db, "UPDATE goose_db_version SET version_id = 0")
}

// TestTheOwnerIsRefusedByTrigger keeps hands off that may do everything else.
func TestTheOwnerIsRefusedByTrigger(t *testing.T) {
	url := migrated(t, server)
	db := raw(t, url)
	register(t, open(t, url).Store)
	today := "audit_events_" + time.Now().UTC().Format("20060102")
	for _, table := range []string{"audit_events", today} {
		refused(t, db, "UPDATE "+table+" SET body = ''")
		refused(t, db, "DELETE FROM "+table)
		refused(t, db, "TRUNCATE "+table)
	}
	refused(t, db, "TRUNCATE audit_events_default")
	refused(t, db, "TRUNCATE audit_head")
	refused(t, db, "DELETE FROM audit_head")
	refused(t, db, "UPDATE audit_head SET sequence = sequence - 1")
	for _, table := range []string{"audit_key", "audit_tree", "audit_tiles", "audit_checkpoints"} {
		refused(t, db, "TRUNCATE "+table)
	}
	refusedChangesOfTheTree(t, db)
}

// refusedChangesOfTheTree makes a tree, and tries what may happen to none.
func refusedChangesOfTheTree(t *testing.T, db *sql.DB) {
	t.Helper()
	exec(t, db, "INSERT INTO audit_key VALUES (1, 'o', 'v', 's')")
	exec(t, db, "INSERT INTO audit_tiles VALUES (0, 0, decode(repeat('ab', 64), 'hex'))")
	exec(t, db, "INSERT INTO audit_checkpoints VALUES (2, 'c', now())")
	exec(t, db, "UPDATE audit_tree SET size = 2, published_size = 1, term = 1")
	for _, statement := range []string{
		"UPDATE audit_key SET origin = 'x'", "UPDATE audit_key SET verifier = 'x'", "DELETE FROM audit_key",
		"UPDATE audit_tree SET size = 1", "UPDATE audit_tree SET published_size = 0", "UPDATE audit_tree SET published_size = 3", "UPDATE audit_tree SET term = 0", "DELETE FROM audit_tree",
		"UPDATE audit_tiles SET n = 1", "UPDATE audit_tiles SET hashes = decode(repeat('ab', 32), 'hex')", "UPDATE audit_tiles SET hashes = decode(repeat('cd', 96), 'hex')", "DELETE FROM audit_tiles",
		"UPDATE audit_checkpoints SET checkpoint = 'x'", "DELETE FROM audit_checkpoints",
	} {
		refused(t, db, statement)
	}
}

// TestTheOwnersFunctionTrustsNobody calls the one function that runs as the owner
// with everything about the caller turned hostile.
func TestTheOwnersFunctionTrustsNobody(t *testing.T) {
	asRole, asOwner := lesser(t)
	open(t, asRole)
	owner, db := raw(t, asOwner), raw(t, asRole)
	db.SetMaxOpenConns(1) // one session
	day := time.Now().UTC().AddDate(0, 0, 5)
	exec(t, db, "CREATE TEMP TABLE audit_events (time timestamptz) PARTITION BY RANGE (time)")
	exec(t, db, "CREATE TEMP TABLE audit_events_"+day.Format("20060102")+" (n bigint)")
	exec(t, db, "CREATE FUNCTION pg_temp.to_char(date, text) RETURNS text LANGUAGE sql AS $$ SELECT 'x(n bigint); DROP TABLE audit_head; --' $$")
	exec(t, db, "CREATE FUNCTION pg_temp.to_regclass(text) RETURNS regclass LANGUAGE sql AS $$ SELECT 'audit_head'::regclass $$")
	for _, setting := range []string{"search_path = pg_temp, public", "timezone = 'Pacific/Kiritimati'", "datestyle = 'German'", "lock_timeout = '1ms'", "check_function_bodies = off"} {
		exec(t, db, "SET "+setting)
	}
	exec(t, db, "SELECT public.audit_partition('"+day.Format(time.DateOnly)+"')")
	const partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'public.audit_events'::regclass"
	if n := one[int](t, owner, partitions); n != 5 {
		t.Errorf("%d partitions are there, want four days and the default one", n)
	}
	bounds := one[string](t, owner, "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'audit_events_"+day.Format("20060102")+"' AND relispartition AND relnamespace = 'public'::regnamespace")
	if want := "FOR VALUES FROM ('" + day.Format(time.DateOnly) + " 00:00:00+00') TO ('" + day.AddDate(0, 0, 1).Format(time.DateOnly) + " 00:00:00+00')"; bounds != want {
		t.Errorf("the partition is %s, want %s", bounds, want)
	}

	// Nobody fills the disk with days that never come.
	for _, far := range []string{"infinity", "-infinity", "1999-01-01", "2999-01-01"} {
		exec(t, db, "SELECT public.audit_partition('"+far+"')")
	}
	exec(t, db, "SELECT public.audit_partition(NULL)")
	if n := one[int](t, owner, partitions); n != 5 {
		t.Errorf("%d partitions are there after days far off", n)
	}

	exec(t, owner, "DO $$ BEGIN CREATE ROLE nobody_at_all LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
	exec(t, owner, "GRANT USAGE ON SCHEMA public TO nobody_at_all")
	refused(t, owner, "SET LOCAL ROLE nobody_at_all", "SELECT audit_partition(current_date)")
	refused(t, owner, "SET LOCAL ROLE nobody_at_all", "SELECT * FROM audit_events")
}
