package app_test

import (
	"database/sql"
	"net/http"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// TestOldEventsGoFromARunningServer which tells of it in its log and in the record.
func TestOldEventsGoFromARunningServer(t *testing.T) {
	contract, err := apptest.LoadContract()
	if err != nil {
		t.Fatal(err)
	}
	s := apptest.Start(t, contract, "AUDIT_RETENTION_DAYS=30")
	s.Clock.Add(-40 * 24 * time.Hour)
	s.Register(s.Admin(), "old", "", "data:read")
	s.Clock.Add(40 * 24 * time.Hour)
	admin := s.Admin()
	list := func(query string) string {
		t.Helper()
		got := s.Call(http.MethodGet, "/audit/events"+query, admin, "")
		if got.Status != http.StatusOK {
			t.Fatalf("listing events was answered %d: %s", got.Status, got.Body)
		}
		return string(got.Body)
	}
	retain := func() {
		t.Helper()
		if err := s.App.Retain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	retain()
	if dropped := list("?action=audit.dropped"); strings.Contains(dropped, "sequences") || !strings.Contains(list(""), "old") {
		t.Errorf("a server that was started just now dropped %s", dropped)
	}

	db, err := sql.Open("sqlite", s.Database())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	// It ran for days, and the tree is grown.
	for _, statement := range []string{"UPDATE audit_clock SET since = seen - 48 * 3600000000", "UPDATE audit_tree SET size = (SELECT sequence FROM audit_head)"} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	retain()
	if dropped := list("?action=audit.dropped"); !strings.Contains(dropped, `"retentionDays":30`) || strings.Contains(list("?action=agent.created"), `"old`) {
		t.Errorf("what is old is there: %s", dropped)
	}
	s.Stop()
	if !strings.Contains(s.Logs.String(), "dropped old events of the record") {
		t.Error("the log does not tell of it")
	}
}
