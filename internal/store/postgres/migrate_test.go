package postgres_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/store/postgres"
)

// TestManyMigrateAtOnce as the nodes of a first deployment do.
func TestManyMigrateAtOnce(t *testing.T) {
	url := server.Database(t)
	const nodes = 10
	var all sync.WaitGroup
	errs := make([]error, nodes)
	for i := range nodes {
		all.Go(func() { errs[i] = postgres.Migrate(t.Context(), secret.New(url), "") })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	db := raw(t, url)
	files, err := filepath.Glob("migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, db, "SELECT count(*) FROM goose_db_version WHERE version_id > 0"); n != len(files) {
		t.Errorf("%d migrations are noted, want each of %d once", n, len(files))
	}
	if n := one[int](t, db, "SELECT count(*) FROM organizations"); n != 1 {
		t.Errorf("%d organizations are there, want the operator's alone", n)
	}
	register(t, open(t, url).Store)
}

func TestMigratingAgainKeepsAll(t *testing.T) {
	url := migrated(t, server)
	s := open(t, url)
	a, _ := register(t, s.Store)
	if err := postgres.Migrate(t.Context(), secret.New(url), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Agent(t.Context(), a.OrganizationID, a.ID); err != nil {
		t.Error(err)
	}
}

func TestOpenWantsTheSchema(t *testing.T) {
	empty, older := server.Database(t), migrated(t, server)
	exec(t, raw(t, older), "DELETE FROM goose_db_version WHERE version_id > 0")
	for name, url := range map[string]string{"an empty database": empty, "an older schema": older} {
		s, err := postgres.Open(t.Context(), secret.New(url))
		if err == nil {
			_ = s.Close()
		}
		if !errors.Is(err, postgres.ErrSchema) || !strings.Contains(err.Error(), "agentidp migrate") {
			t.Errorf("%s: %v, want ErrSchema with the command that helps", name, err)
		}
	}
}

func TestABadURLKeepsItsPassword(t *testing.T) {
	for _, url := range []string{"postgres://u:hunter2@[::1", "postgres://u:hunter2@127.0.0.1:1/x?connect_timeout=1", "mysql://u:hunter2@h/x?sslmode=none"} {
		s, err := postgres.Open(t.Context(), secret.New(url))
		if err == nil {
			_ = s.Close()
			t.Errorf("%s was opened", url)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is told: %v", err)
		}
	}
}

func TestPartitions(t *testing.T) {
	const where = "SELECT tableoid::regclass::text FROM audit_events ORDER BY sequence DESC LIMIT 1"
	url := migrated(t, server)
	s, db := open(t, url), raw(t, url)
	today := "audit_events_" + time.Now().UTC().Format("20060102")
	register(t, s.Store)
	if got := one[string](t, db, where); got != today {
		t.Errorf("today's event lies in %s, want %s", got, today)
	}

	// The server was away for so long that a day has no partition.
	exec(t, db, "ALTER TABLE audit_events DETACH PARTITION "+today)
	exec(t, db, "DROP TABLE "+today)
	a, _ := register(t, s.Store)
	if got := one[string](t, db, where); got != "audit_events_default" {
		t.Errorf("an event of a day without a partition lies in %s", got)
	}
	if err := s.Maintain(t.Context(), time.Now()); err != nil {
		t.Errorf("a day whose events stand in the default partition fails the server: %v", err)
	}
	open(t, url)
	register(t, s.Store)
	if n := one[int](t, db, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_events'::regclass"); n != 3 {
		t.Errorf("%d partitions are there, want two days and the default one", n)
	}
	if _, err := s.Agent(t.Context(), a.OrganizationID, a.ID); err != nil {
		t.Error(err)
	}
}

// TestAReaderDoesNotHoldUpPartitions lets the making of a partition give up behind
// a long read, and writers go on meanwhile.
func TestAReaderDoesNotHoldUpPartitions(t *testing.T) {
	url := migrated(t, server)
	s, db := open(t, url), raw(t, url)
	reader, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.ExecContext(t.Context(), "SELECT count(*) FROM audit_events"); err != nil {
		t.Fatal(err)
	}
	made := make(chan error, 1)
	go func() { made <- s.Maintain(t.Context(), time.Now().AddDate(0, 0, 10)) }()
	for len(made) == 0 {
		register(t, s.Store)
	}
	if err := errors.Join(<-made, reader.Rollback(), s.Maintain(t.Context(), time.Now().AddDate(0, 0, 10))); err != nil {
		t.Error(err)
	}
	if n := one[int](t, db, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_events'::regclass"); n != 7 {
		t.Errorf("%d partitions are there, want six days and the default one", n)
	}
}

func TestManyMakeThePartitionsAtOnce(t *testing.T) {
	url := migrated(t, server)
	s, db := open(t, url), raw(t, url)
	var all sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		all.Go(func() { errs[i] = s.Maintain(t.Context(), time.Now().AddDate(0, 0, 5)) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if n := one[int](t, db, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit_events'::regclass"); n != 7 {
		t.Errorf("%d partitions are there, want six days and the default one", n)
	}
	for _, index := range []string{"pg_index", "pg_trigger"} { // a partition that was attached has all a parent has
		column := map[string]string{"pg_index": "indrelid", "pg_trigger": "tgrelid"}[index]
		if n := one[int](t, db, "SELECT count(DISTINCT n) FROM (SELECT count(*) AS n FROM "+index+" x JOIN pg_inherits i ON i.inhrelid = x."+column+
			" WHERE i.inhparent = 'audit_events'::regclass GROUP BY i.inhrelid) AS each"); n != 1 {
			t.Errorf("partitions differ in %s", index)
		}
	}
}
