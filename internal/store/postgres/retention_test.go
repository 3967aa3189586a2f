package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
	"git.sentryagent.ai/sentryagent-idp/internal/store/postgres"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// ago is a time so many days ago.
func ago(days float64) time.Time {
	return time.Now().Add(-time.Duration(days * float64(24*time.Hour))).UTC().Truncate(time.Microsecond)
}

// aged appends an event of each age in days.
func aged(t *testing.T, s *store.Store, ages ...float64) {
	t.Helper()
	var records []audit.Record
	for _, age := range ages {
		records = append(records, audit.Record{Event: event(ago(age), audit.TokenIssued, uuid.New())})
	}
	if _, err := s.AppendRecords(t.Context(), records); err != nil {
		t.Fatal(err)
	}
}

// plain seals nothing.
type plain struct{}

func (plain) Seal(_ string, data []byte) []byte { return data }

func (plain) Open(_ string, sealed []byte) ([]byte, bool, error) { return sealed, false, nil }

// cover has the tree take in all there is.
func cover(t *testing.T, s *store.Store) {
	t.Helper()
	key, err := transparency.EnsureKey(t.Context(), s, plain{}, "test.example/audit")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		transparency.NewSequencer(transparency.SequencerConfig{Store: s, Key: key, Logger: slog.New(slog.DiscardHandler), Now: time.Now, Poll: time.Millisecond}).Run(ctx)
	}()
	tree, err := s.Tree(t.Context())
	for late := time.Now().Add(time.Minute); err == nil && tree.Size < tree.Head && time.Now().Before(late); <-time.After(time.Millisecond) {
		tree, err = s.Tree(t.Context())
	}
	stop()
	<-done
	if err != nil {
		t.Fatal(err)
	}
}

// drop deletes what is old enough of the operator's organization, and tells of it at a
// time.
func drop(t *testing.T, s *store.Store, before, at time.Time, events int) int64 {
	t.Helper()
	d := audit.Drop{Retained: audit.Retained{OrganizationID: organization.DefaultID(), Days: 90}, Before: before, Events: events, Ranges: 2000}
	n, err := s.DropEvents(t.Context(), d, func(r audit.Ranges) audit.Event {
		return telling(before, at, r)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// telling makes the event of a drop.
func telling(before, at time.Time, r audit.Ranges) audit.Event {
	return event(at, audit.Dropped, uuid.Nil).With(audit.Details{}.Time("before", before).Int("count", r.Count()).String("sequences", r.String()))
}

// calling audit_drop for some sequences of the operator's organization.
func calling(before, firsts, lasts string) string {
	return "SELECT public.audit_drop('00000000-0000-4000-8000-000000000001', " + before + ", '-infinity', 'infinity', '{" + firsts + "}', '{" + lasts + "}')"
}

// wrong wants the statement refused for its arguments.
func wrong(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), statement)
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code[:2] != "22" {
		t.Errorf("%s gives %v, want its arguments refused", statement, err)
	}
}

// TestTheLesserRoleDropsOnlyWhatIsOld plays a server that was taken over and calls the
// function that deletes with all one can think of.
func TestTheLesserRoleDropsOnlyWhatIsOld(t *testing.T) {
	asRole, asOwner := lesser(t)
	s, db, owner := open(t, asRole), raw(t, asRole), raw(t, asOwner)
	aged(t, s.Store, 400, 300, 10, 1.5)
	cover(t, s.Store)
	if n := drop(t, s.Store, ago(350), ago(200), 1); n != 1 { // sequence 5 tells of it
		t.Fatalf("%d events were dropped", n)
	}
	cover(t, s.Store)
	aged(t, s.Store, 300, 0) // 6 and 7 are not in the tree
	exec(t, owner, "INSERT INTO organizations (id, name, created_at, updated_at) VALUES ('00000000-0000-4000-8000-000000000002', 'other', now(), now())")
	const month = "now() - interval '30 days'"
	lawful := calling(month, "2", "2")

	refused(t, db, calling("now() - interval '23 hours'", "2", "2"))
	refused(t, db, calling("now() + interval '1 day'", "2", "2"))
	refused(t, db, calling("'infinity'", "2", "2"))
	refused(t, db, calling("'-infinity'", "2", "2"))
	refused(t, db, "UPDATE organizations SET audit_retention_days = 60", lawful)
	refused(t, db, "UPDATE organizations SET legal_hold = true", lawful)
	refused(t, db, strings.Replace(lawful, "000001", "000002", 1))
	refused(t, db, strings.Replace(lawful, "000001", "000003", 1))
	refused(t, db, strings.Replace(lawful, "'infinity'", "'2000-01-01'", 1))
	refused(t, db, calling(month, "1", "1")) // gone already
	refused(t, db, calling(month, "2", "3"))
	refused(t, db, calling(month, "3", "3"))
	refused(t, db, calling(month, "5", "5")) // which tells of a drop
	refused(t, db, calling(month, "6", "6")) // which no checkpoint covers
	refused(t, db, calling("now() - interval '25 hours'", "7", "7"))
	for _, ranges := range [][2]string{
		{"", ""},
		{"2", ""},
		{"", "2"},
		{"2,2", "2"},
		{"2,2", "2,2"},
		{"3,2", "3,2"},
		{"2", "1"},
		{"NULL", "2"},
		{"2", "NULL"},
		{"0", "2"},
		{"-5", "2"},
		{"1", "9223372036854775807"},
		{"-9223372036854775808", "9223372036854775807"},
		{"1", "60000"},
		{strings.Repeat("1,", 2000) + "1", strings.Repeat("1,", 2000) + "1"},
	} {
		wrong(t, db, calling(month, ranges[0], ranges[1]))
	}
	for i := range 6 {
		args := []string{"'00000000-0000-4000-8000-000000000001'", month, "'-infinity'", "'infinity'", "'{2}'", "'{2}'"}
		args[i] = "NULL"
		exec(t, db, "SELECT public.audit_drop("+strings.Join(args, ", ")+")")
	}

	// What goes must be told, as it is.
	refused(t, db, lawful, "SET CONSTRAINTS ALL IMMEDIATE")
	refused(t, db, "SET CONSTRAINTS ALL IMMEDIATE", lawful)
	tell := func(organization, before, sequences, count string) string {
		return `INSERT INTO audit_events VALUES (8, gen_random_uuid(), '00000000-0000-4000-8000-00000000000` + organization + `', now(), NULL, 's', 'audit.dropped', 'success',
			convert_to('{"details":{"before":"' || (` + before + `)::text || '","sequences":"` + sequences + `","count":` + count + `}}', 'UTF8'))`
	}
	refused(t, db, tell("1", month, "2", "1"))
	refused(t, db, lawful, tell("2", month, "2", "1"))
	refused(t, db, lawful, tell("1", "now() - interval '31 days'", "2", "1"))
	refused(t, db, lawful, tell("1", month, "2-3", "1"))
	refused(t, db, lawful, tell("1", month, "2", "2"))
	refused(t, db, lawful, tell("1", month, "2", "1"), strings.Replace(tell("1", month, "2", "1"), "(8,", "(9,", 1))
	refused(t, db, strings.Replace(tell("1", month, "2", "1"), "(8,", "(1,", 1))
	refused(t, db, lawful, "DELETE FROM audit_events WHERE sequence = 3")
	refused(t, db, lawful, "DELETE FROM audit_drops")
	refused(t, db, "INSERT INTO audit_drops VALUES ('00000000-0000-4000-8000-000000000001', "+month+", '2', 1)")
	refused(t, db, "UPDATE audit_drops SET count = 0")
	refused(t, db, "DELETE FROM audit_clock")
	refused(t, db, "CREATE OR REPLACE VIEW database_clock AS SELECT now() + interval '1 year' AS now")
	for _, function := range []string{"audit_drop_lawful()", "audit_drop_untold()", "audit_drop_told()", "audit_refuse_deletion()"} {
		refused(t, db, "CREATE OR REPLACE FUNCTION "+function+" RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN old; END'")
	}
	refused(t, db, "ALTER TABLE audit_drops DISABLE TRIGGER ALL")
	refused(t, db, "DROP TRIGGER audit_events_no_delete ON audit_events")
	for _, sequence := range []int{2, 3, 4, 5, 6, 7} {
		if n := one[int](t, owner, fmt.Sprintf("SELECT count(*) FROM audit_events WHERE sequence = %d", sequence)); n != 1 {
			t.Errorf("the event %d is there %d times", sequence, n)
		}
	}
	exec(t, owner, "DO $$ BEGIN CREATE ROLE nobody_at_all LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
	exec(t, owner, "GRANT USAGE ON SCHEMA public TO nobody_at_all")
	refused(t, owner, "SET LOCAL ROLE nobody_at_all", lawful)
	refused(t, owner, "SET LOCAL ROLE nobody_at_all", "SELECT audit_drop_day(current_date - 9)")
	// The owner's own hands are kept off too.
	refused(t, owner, "DELETE FROM audit_events WHERE sequence = 2")
	refused(t, owner, "INSERT INTO audit_drops VALUES ('00000000-0000-4000-8000-000000000001', now(), '2', 1)")
	refused(t, owner, "INSERT INTO audit_drops VALUES ('00000000-0000-4000-8000-000000000001', "+month+", '2', 1)", "SET CONSTRAINTS ALL IMMEDIATE")

	hostile(t, db)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var left, touched int
	if _, err = tx.ExecContext(t.Context(), lawful); err == nil {
		err = tx.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM public.audit_events WHERE sequence = 2), (SELECT count(*) - 1 FROM pg_temp.audit_events)").Scan(&left, &touched)
	}
	if err := errors.Join(err, tx.Rollback()); err != nil || left != 0 || touched != 0 {
		t.Errorf("in a hostile session %d events are left, and the caller's own differ by %d: %v", left, touched, err)
	}
	exec(t, db, "SELECT public.audit_drop_day(current_date - 9)")
}

// hostile turns all about one session that could lead the owner's functions astray.
func hostile(t *testing.T, db *sql.DB) {
	t.Helper()
	db.SetMaxOpenConns(1) // one session
	for _, statement := range []string{
		"CREATE TEMP TABLE audit_events (LIKE public.audit_events)", "INSERT INTO pg_temp.audit_events SELECT * FROM public.audit_events WHERE sequence = 2",
		"CREATE TEMP TABLE audit_drops (organization_id uuid, before timestamptz, sequences text, count bigint)",
		"CREATE TEMP TABLE audit_tree (size bigint)", "INSERT INTO pg_temp.audit_tree VALUES (1000)",
		"CREATE TEMP TABLE organizations (id uuid, legal_hold boolean, audit_retention_days bigint)",
		"CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '2999-01-01' $$",
		"CREATE FUNCTION pg_temp.cardinality(bigint[]) RETURNS integer LANGUAGE sql AS $$ SELECT 1 $$",
		"CREATE FUNCTION pg_temp.isfinite(timestamptz) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$",
		"SET search_path = pg_temp, public", "SET timezone = 'Pacific/Kiritimati'", "SET datestyle = 'German'", "SET extra_float_digits = 0", "SET enable_indexscan = off",
	} {
		exec(t, db, statement)
	}
	refused(t, db, calling("clock_timestamp()", "2", "2"))
	refused(t, db, calling("now() - interval '30 days'", "6", "6"))
}

// partition makes the partition of a day.
func partition(t *testing.T, owner *sql.DB, at time.Time) string {
	t.Helper()
	from := at.UTC().Truncate(24 * time.Hour)
	name := "audit_events_" + from.Format("20060102")
	exec(t, owner, "CREATE TABLE "+name+" (LIKE audit_events)")
	exec(t, owner, fmt.Sprintf("ALTER TABLE audit_events ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')", name,
		from.Format("2006-01-02 15:04:05Z"), from.AddDate(0, 0, 1).Format("2006-01-02 15:04:05Z")))
	return name
}

// TestDaysOfWhichNothingIsLeftGoAway and others stay.
func TestDaysOfWhichNothingIsLeftGoAway(t *testing.T) {
	asRole, asOwner := lesser(t)
	s, db, owner := open(t, asRole), raw(t, asRole), raw(t, asOwner)
	spent, empty, told, used, young := partition(t, owner, ago(300)), partition(t, owner, ago(299)), partition(t, owner, ago(200)), partition(t, owner, ago(50)), partition(t, owner, ago(2))
	aged(t, s.Store, 300, 300, 300, 50)
	cover(t, s.Store)
	if n := drop(t, s.Store, ago(100), ago(200), 3); n != 3 {
		t.Fatalf("%d events were dropped", n)
	}
	keeper := one[uuid.UUID](t, owner, "SELECT id FROM audit_events WHERE action = 'audit.dropped'")
	body := one[[]byte](t, owner, "SELECT body FROM audit_events WHERE action = 'audit.dropped'")
	partitions := func() string {
		return one[string](t, owner, "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'r' AND relname ~ '^audit_events_2' AND relname < 'audit_events_"+ago(1).Format("20060102")+"'")
	}
	dropDays := func(want int, left ...string) {
		t.Helper()
		n, err := s.DropDays(t.Context())
		if err != nil || n != want || partitions() != strings.Join(left, " ") {
			t.Errorf("%d days went, %v, and left %s; want %d and %v", n, err, partitions(), want, left)
		}
	}
	// Who reads holds it up, and writers go on meanwhile.
	reader, err := owner.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.ExecContext(t.Context(), "SELECT count(*) FROM audit_events"); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); dropDays(0, spent, empty, told, used, young) }()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		default:
			register(t, s.Store)
		}
	}
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	dropDays(2, told, used, young) // what tells of the drop is not in the tree yet
	cover(t, s.Store)
	dropDays(1, used, young)
	dropDays(0, used, young)
	got, err := s.Event(t.Context(), organization.DefaultID(), keeper)
	if err != nil || string(got.Encode()) != string(body) || got.Sequence != 5 {
		t.Errorf("the event that tells of the drop reads %d, %v", got.Sequence, err)
	}
	if where := one[string](t, owner, "SELECT tableoid::regclass::text FROM audit_events WHERE sequence = 5"); where != "audit_events_default" {
		t.Errorf("the event that tells of the drop lies in %s", where)
	}

	for _, day := range []string{"current_date", "current_date - 2", "'infinity'", "'-infinity'", "'0001-01-01'", "'2999-01-01'", "NULL", "current_date - 77", "current_date - 50"} {
		if one[sql.NullBool](t, db, "SELECT audit_drop_day("+day+")").Bool {
			t.Errorf("the day %s went", day)
		}
	}
	dropDays(0, used, young)
	exec(t, owner, "CREATE TABLE audit_events_20200101 (LIKE audit_events)") // no partition
	if one[bool](t, db, "SELECT audit_drop_day('2020-01-01')") {
		t.Error("a table that is no partition went")
	}
}

// TestADropFindsItsRowsByIndex has the statements within the owner's function
// explained, on days of many events.
func TestADropFindsItsRowsByIndex(t *testing.T) {
	url := migrated(t, server)
	s, db := open(t, url), raw(t, url)
	crowd{agents: 1000, events: 300_000}.fill(t, db)
	exec(t, db, "UPDATE audit_tree SET size = 300000")
	var plans []string
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { plans = append(plans, n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	for _, statement := range []string{
		"SET statement_timeout = '60s'", "LOAD 'auto_explain'", "SET auto_explain.log_min_duration = 0", "SET auto_explain.log_nested_statements = on", "SET auto_explain.log_analyze = on", "SET client_min_messages = log",
		"BEGIN", "SELECT audit_drop('00000000-0000-4000-8000-000000000001', now() - interval '2 days', '-infinity', 'infinity', ARRAY(SELECT 1 + 10 * n FROM generate_series(0, 199) n), ARRAY(SELECT 5 + 10 * n FROM generate_series(0, 199) n))", "ROLLBACK",
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	deleted := false
	for _, plan := range plans {
		deleted = deleted || strings.Contains(plan, "Delete on audit_events")
		for line := range strings.Lines(plan) {
			if strings.Contains(line, "Seq Scan on audit_events") {
				t.Errorf("a drop reads all of a day: %s", plan)
			}
		}
	}
	if !deleted {
		t.Errorf("no deletion was explained: %s", plans)
	}
	start := time.Now()
	n := drop(t, s.Store, ago(2), time.Now(), 5000)
	t.Logf("%d events went within %v", n, time.Since(start))
	if n != 5000 {
		t.Errorf("%d events were dropped, want 5000", n)
	}
}

var _ audit.RetentionStore = (*postgres.Store)(nil)
