package app_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
	"git.sentryagent.ai/sentryagent-idp/internal/verify"
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

	db := apptest.OpenDatabase(t, s.Database())
	ranForDays(t, db)
	retain()
	if dropped := list("?action=audit.dropped"); !strings.Contains(dropped, `"retentionDays":30`) || strings.Contains(list("?action=agent.created"), `"old`) {
		t.Errorf("what is old is there: %s", dropped)
	}
	s.Stop()
	if !strings.Contains(s.Logs.String(), "dropped old events of the record") {
		t.Error("the log does not tell of it")
	}
}

// ranForDays makes a database one whose clock has run on for two days, and waits until
// the tree covers every event.
func ranForDays(t *testing.T, db *sql.DB) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), "UPDATE audit_clock SET since = seen - 48 * 3600000000"); err != nil {
		t.Fatal(err)
	}
	until(t, "the tree covers every event", func() bool {
		var behind int64
		if err := db.QueryRowContext(t.Context(), "SELECT h.sequence - t.published_size FROM audit_head h, audit_tree t").Scan(&behind); err != nil {
			t.Fatal(err)
		}
		return behind == 0
	})
}

// TestWhatWasDroppedIsExplainedAndTheRestIsProven on a log of organizations with limits
// of their own (R35): an outsider finds every event that is gone named, and every event
// that is there proven.
func TestWhatWasDroppedIsExplainedAndTheRestIsProven(t *testing.T) {
	contract, err := apptest.LoadContract()
	if err != nil {
		t.Fatal(err)
	}
	s := apptest.Start(t, contract, "AUDIT_RETENTION_DAYS=30")
	s.Clock.Add(-40 * 24 * time.Hour)
	admin := s.Admin()
	ids := map[string]string{}
	for name, limits := range map[string]string{"short": `"auditRetentionDays": 10`, "long": `"auditRetentionDays": 60`, "held": `"auditRetentionDays": 10, "legalHold": true`, "usual": `"displayName": ""`} {
		made := s.Call(http.MethodPost, "/organizations", admin, `{"name": "`+name+`", `+limits+`}`)
		if made.Status != http.StatusCreated {
			t.Fatalf("making %s: %d %s", name, made.Status, made.Body)
		}
		ids[name], _ = made.JSON(t)["id"].(string)
	}
	for range 5 { // their events lie between one another's
		for name, id := range ids {
			agent := `{"email": "` + uuid.NewString() + `@example.com", "agentType": "reader", "version": "1.0.0", "capabilities": ["a:b"], "owner": "` + name + `", "deploymentEnv": "staging"}`
			if made := s.Call(http.MethodPost, "/agents?organizationId="+id, admin, agent); made.Status != http.StatusCreated {
				t.Fatalf("registering: %d %s", made.Status, made.Body)
			}
		}
	}
	s.Clock.Add(40 * 24 * time.Hour)
	db := apptest.OpenDatabase(t, s.Database())
	if err := s.App.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	ranForDays(t, db)
	if err := s.App.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	admin = s.Admin()
	key, err := note.NewVerifier(strings.TrimSpace(string(s.Call(http.MethodGet, "/audit/key", "", "").Body)))
	if err != nil {
		t.Fatal(err)
	}

	proven := map[string]int{}
	for name, id := range ids {
		var events struct{ Items []struct{ ID, Action string } }
		if err := json.Unmarshal(s.Call(http.MethodGet, "/audit/events?limit=200&organizationId="+id, admin, "").Body, &events); err != nil {
			t.Fatal(err)
		}
		for _, e := range events.Items {
			proof, err := verify.ReadInclusion(bytes.NewReader(s.Call(http.MethodGet, "/audit/events/"+e.ID+"/proof?organizationId="+id, admin, "").Body))
			if err != nil {
				t.Fatal(err)
			}
			if event, _, err := proof.Verify(key); err != nil || event.ID.String() != e.ID {
				t.Errorf("an event of %s is not proven: %v", name, err)
			}
			proven[name]++
		}
	}
	// Each had the event of its making and two of each of its agents.
	if want := map[string]int{"short": 1, "usual": 1, "long": 11, "held": 11}; !maps.Equal(proven, want) {
		t.Errorf("proven are %v events, want %v: what tells of a drop, and what is kept", proven, want)
	}

	export := s.Call(http.MethodGet, "/audit/export?proof=true&all=true", admin, "").Body
	o := &outsider{key: key}
	if err := o.verify(bytes.NewReader(export)); err != nil || len(o.missing) < 22 {
		t.Errorf("an outsider finds %d events gone: %v", len(o.missing), err)
	}
	sum, err := verify.Export(t.Context(), bytes.NewReader(export), verify.Config{Log: key, All: true})
	if err != nil || sum.Hidden != int64(len(o.missing)) {
		t.Errorf("audit verify says %+v, %v", sum, err)
	}
	// Without what tells of it, the same is a theft.
	told := regexp.MustCompile(`(?m)^\{"sequence":(\d+),"leafHash":"([^"]+)".*"audit\.dropped".*$`)
	stolen := told.ReplaceAllFunc(export, func(line []byte) []byte {
		m := told.FindSubmatch(line)
		n, _ := strconv.Atoi(string(m[1]))
		return fmt.Appendf(nil, `{"leaves":[%d,%d],"hash":"%s"}`, n-1, n, m[2])
	})
	if err := (&outsider{key: key}).verify(bytes.NewReader(stolen)); err == nil {
		t.Error("events that nothing explains were accepted as gone")
	}
}
