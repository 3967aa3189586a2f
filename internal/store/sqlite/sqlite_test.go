package sqlite_test

import (
	"database/sql"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
	"git.sentryagent.ai/sentryagent-idp/internal/store/sqlite"
	"git.sentryagent.ai/sentryagent-idp/internal/store/storetest"
)

// open opens a database and closes it with the test.
func open(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.Store {
		return open(t, filepath.Join(t.TempDir(), "agentidp.db"))
	})
}

// register stores one agent with a credential and an event.
func register(t *testing.T, s *store.Store, email string) (agent.Agent, credential.Credential) {
	t.Helper()
	now := time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
	org := organization.DefaultID()
	a := agent.Agent{
		ID: uuid.New(), OrganizationID: org, Email: email, Type: "reader", Version: "v1.0.0", Capabilities: scope.New("files:read"),
		Owner: "platform", DeploymentEnv: "production", Status: agent.Active, Metadata: json.RawMessage("{}"), CreatedAt: now, UpdatedAt: now, Revision: 1,
	}
	c := credential.Credential{
		ID: uuid.New(), AgentID: a.ID, OrganizationID: org, KeyID: uuid.NewString(), Verifier: credential.Verifier{Fingerprint: []byte("f"), FingerprintKeyID: "k"},
		CreatedAt: now, Revision: 1,
	}
	if err := s.CreateAgent(t.Context(), a, c, audit.System("test").Event(now, org, audit.AgentCreated, a.Target()).About(a.ID)); err != nil {
		t.Fatal(err)
	}
	return a, c
}

// raw opens the file beside the store.
func raw(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func one[T any](t *testing.T, db *sql.DB, query string) T {
	t.Helper()
	var v T
	if err := db.QueryRowContext(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func TestAReopenedFileKeepsAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentidp.db")
	s := open(t, path)
	a, c := register(t, s, "a@example.com")
	list := func(s *store.Store) []audit.Event {
		events, err := s.Events(t.Context(), organization.DefaultID(), audit.Filter{}, page.Query{Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		return events.Items
	}
	events := list(s)
	counter, err := s.Counter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, path)
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if got, err := s.Agent(t.Context(), a.OrganizationID, a.ID); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("the agent reads %+v, %v; want %+v", got, err, a)
	}
	if got, err := s.Credential(t.Context(), a.OrganizationID, a.ID, c.ID); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("the credential reads %+v, %v; want %+v", got, err, c)
	}
	if got := list(s); len(got) != 1 || !reflect.DeepEqual(got, events) {
		t.Errorf("the events read %+v, want %+v", got, events)
	}
	if got, err := s.Counter(t.Context()); err != nil || got != counter {
		t.Errorf("the counter reads %d, %v; want %d", got, err, counter)
	}
	register(t, s, "b@example.com")
	if got := list(s); len(got) != 2 || max(got[0].Sequence, got[1].Sequence) != events[0].Sequence+1 {
		t.Errorf("the log does not go on where it ended: %+v", got)
	}
}

func TestOpeningTwiceMigratesOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentidp.db")
	first := open(t, path)
	a, _ := register(t, first, "a@example.com")
	db := raw(t, sqlite.ReadDSN(path))
	const versions = "SELECT group_concat(version_id || ':' || tstamp) FROM goose_db_version"
	before := one[string](t, db, versions)
	second := open(t, path) // while the first is still open
	if after := one[string](t, db, versions); after != before {
		t.Errorf("the migrations went from %s to %s", before, after)
	}
	if n := one[int](t, db, "SELECT count(*) FROM organizations"); n != 1 {
		t.Errorf("%d organizations are there, want the operator's alone", n)
	}
	if _, err := second.Agent(t.Context(), a.OrganizationID, a.ID); err != nil {
		t.Errorf("the second store does not see what the first wrote: %v", err)
	}
	b, _ := register(t, second, "b@example.com")
	if _, err := first.Agent(t.Context(), b.OrganizationID, b.ID); err != nil {
		t.Errorf("the first store does not see what the second wrote: %v", err)
	}
}

func TestOnlyTheOwnerReadsTheFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "data")
	s := open(t, filepath.Join(dir, "agentidp.db"))
	register(t, s, "a@example.com") // so that the write-ahead log is there
	for _, folder := range []string{dir, filepath.Dir(dir)} {
		info, err := os.Stat(folder)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s has the mode %v, want 0700", folder, info.Mode())
		}
	}
	seen := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		seen[d.Name()] = true
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v, want 0600", path, info.Mode())
		}
		return nil
	})
	if err != nil || !seen["agentidp.db"] || !seen["agentidp.db-wal"] {
		t.Errorf("the folder holds %v, %v", seen, err)
	}
}

func TestAPathMayHoldAnything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wei?rd #%20 näme&mode=memory", "a b.db")
	a, _ := register(t, open(t, path), "a@example.com")
	if _, err := open(t, path).Agent(t.Context(), a.OrganizationID, a.ID); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("the file was made elsewhere: %v", err)
	}
}

func TestAnUnusableFileIsAnError(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.db")
	if err := os.WriteFile(junk, []byte("this is no database, though it is long enough to be taken for the header of one; so there it stands........"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, junk, filepath.Join(junk, "below.db")} {
		if s, err := sqlite.Open(t.Context(), path); err == nil {
			t.Errorf("%s was opened", path)
			_ = s.Close()
		}
	}
}

func TestConnectionsSyncEveryCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentidp.db")
	open(t, path)
	for name, dsn := range map[string]string{"write": sqlite.WriteDSN(path), "read": sqlite.ReadDSN(path)} {
		db := raw(t, dsn)
		if got := one[string](t, db, "PRAGMA journal_mode"); got != "wal" {
			t.Errorf("%s: journal_mode is %s, want wal", name, got)
		}
		if got := one[int](t, db, "PRAGMA synchronous"); got != 2 {
			t.Errorf("%s: synchronous is %d, want 2 (FULL)", name, got)
		}
		if got := one[int](t, db, "PRAGMA foreign_keys"); got != 1 {
			t.Errorf("%s: foreign_keys is %d, want 1", name, got)
		}
		_, err := db.ExecContext(t.Context(), "UPDATE change_counter SET value = value + 1")
		if (err == nil) != (name == "write") {
			t.Errorf("%s: a write gives %v", name, err)
		}
	}
}

// TestAFileThatWasReplacedTakesNothing removes the database under a running server:
// what would be written to it would be gone at the next start (R4).
func TestAFileThatWasReplacedTakesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentidp.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	event := audit.System("test").Event(time.Now(), organization.DefaultID(), audit.TokenIssued, audit.Target{Type: audit.TypeToken})
	record := []audit.Record{{Event: event}}
	if _, err := s.AppendRecords(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	for _, replace := range []func() error{
		func() error { return os.Remove(path) },
		func() error { return os.WriteFile(path, []byte("something else"), 0o600) },
	} {
		if err := replace(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.AppendRecords(t.Context(), record); !fault.Is(err, fault.CodeUnavailable) {
			t.Errorf("a record for a file that is gone: %v, want UNAVAILABLE", err)
		}
	}
}

// TestSeveralMayStartOnAnEmptyFolder opens one database many times at once.
func TestSeveralMayStartOnAnEmptyFolder(t *testing.T) {
	for range 2 {
		path := filepath.Join(t.TempDir(), "agentidp.db")
		failures := make(chan error, 4)
		for range cap(failures) {
			go func() {
				s, err := sqlite.Open(t.Context(), path)
				if err == nil {
					err = s.Close()
				}
				failures <- err
			}()
		}
		for range cap(failures) {
			if err := <-failures; err != nil {
				t.Errorf("one of several that start at once: %v", err)
			}
		}
	}
}
