package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/store/sqlite"
)

// attempt carries statements out in one transaction, and wants the last one, or the
// commit where that is named so, to be refused with the text.
func attempt(t *testing.T, db *sql.DB, want string, statements ...string) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	for i, statement := range statements {
		if statement == "COMMIT" {
			err = tx.Commit()
		} else {
			_, err = tx.ExecContext(t.Context(), statement)
		}
		if i < len(statements)-1 && err != nil {
			t.Fatalf("the preparation %s: %v", statement, err)
		}
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s gives %v, want %q", statements[len(statements)-1], err, want)
	}
}

// TestTheTriggersLetOneKindOfDeletionPass tries every other, as whoever can write to
// the file.
func TestTheTriggersLetOneKindOfDeletionPass(t *testing.T) {
	path, org := filepath.Join(t.TempDir(), "agentidp.db"), organization.DefaultID()
	s := open(t, path)
	var records []audit.Record
	for _, days := range []int{400, 300, 10, 0, 200} {
		records = append(records, audit.Record{Event: audit.System("test").Event(time.Now().AddDate(0, 0, -days), org, audit.TokenIssued, audit.Target{Type: audit.TypeAgent})})
	}
	if _, err := s.AppendRecords(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	db := raw(t, sqlite.WriteDSN(path))
	db.SetMaxOpenConns(1)
	const (
		mine   = "'00000000-0000-4000-8000-000000000001'"
		other  = "'00000000-0000-4000-8000-000000000002'"
		ago    = "(unixepoch() - 86400 * %) * 1000000"
		permit = "INSERT INTO audit_drop (organization_id, before) VALUES (" + mine + ", " + ago + ")"
	)
	before := func(days string) string { return strings.ReplaceAll(permit, "%", days) }
	for _, statement := range []string{
		"UPDATE audit_tree SET size = 3", "INSERT INTO organizations (id, name, created_at, updated_at) VALUES (" + other + ", 'other', 0, 0)",
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}

	const never, unlawful, untold = "cannot be deleted", "cannot be dropped", "untold"
	attempt(t, db, never, "DELETE FROM audit_events")
	attempt(t, db, never, "DELETE FROM audit_events WHERE sequence = 1")
	// What is asked for must be lawful.
	attempt(t, db, unlawful, before("0.9"))
	attempt(t, db, unlawful, before("-9"))
	attempt(t, db, unlawful, "UPDATE organizations SET legal_hold = 1", before("30"))
	attempt(t, db, unlawful, "UPDATE organizations SET audit_retention_days = 60", before("30"))
	attempt(t, db, unlawful, strings.Replace(before("30"), mine, "'nobody'", 1))
	attempt(t, db, unlawful, before("30"), before("30"))
	attempt(t, db, unlawful, "INSERT INTO audit_drop (organization_id, before, told) VALUES ("+mine+", 1, 1)")
	attempt(t, db, unlawful, before("30"), "UPDATE audit_drop SET before = before + 1")
	attempt(t, db, unlawful, before("30"), "UPDATE audit_drop SET organization_id = "+other)
	// Nothing else goes with it.
	attempt(t, db, never, before("30"), "DELETE FROM audit_events WHERE sequence = 3")
	attempt(t, db, never, before("1.5"), "DELETE FROM audit_events WHERE sequence = 4")
	attempt(t, db, never, before("30"), "DELETE FROM audit_events WHERE sequence = 5") // which no checkpoint covers
	attempt(t, db, never, strings.Replace(before("30"), mine, other, 1), "DELETE FROM audit_events WHERE sequence = 1")
	attempt(t, db, never, before("30"), "DELETE FROM audit_events WHERE sequence IN (1, 2)", "DELETE FROM audit_events WHERE sequence = 4")
	// What went must be told, and only what went.
	attempt(t, db, untold, before("30"), "DELETE FROM audit_events WHERE sequence = 1", "DELETE FROM audit_drop")
	attempt(t, db, "FOREIGN KEY", before("30"), "DELETE FROM audit_events WHERE sequence = 1", "COMMIT")
	tell := func(count string) string {
		return `INSERT INTO audit_events VALUES (6, 'x', ` + mine + `, unixepoch() * 1000000, NULL, 's', 'audit.dropped', 'success', CAST('{"details":{"count":` + count + `}}' AS BLOB))`
	}
	const nothing = "nothing was dropped"
	attempt(t, db, nothing, tell("1"))
	attempt(t, db, nothing, before("30"), tell("0"))
	attempt(t, db, nothing, before("30"), "DELETE FROM audit_events WHERE sequence = 1", tell("2"))
	attempt(t, db, nothing, before("30"), "DELETE FROM audit_events WHERE sequence = 1", strings.Replace(tell("1"), mine, other, 1))
	attempt(t, db, never, before("30"), "DELETE FROM audit_events WHERE sequence = 1", tell("1"), "DELETE FROM audit_events WHERE sequence = 2")
	attempt(t, db, never, before("30"), "DELETE FROM audit_events WHERE sequence = 1", strings.Replace(tell("1"), "unixepoch()", "0", 1), before("30"), "UPDATE audit_tree SET size = 6", "DELETE FROM audit_events WHERE sequence = 6")
	if n := one[int](t, db, "SELECT count(*) FROM audit_events"); n != 5 {
		t.Errorf("%d events are left, want all five", n)
	}
	if n := one[int](t, db, "SELECT count(*) FROM audit_drop"); n != 0 {
		t.Errorf("%d permissions are left", n)
	}
}
