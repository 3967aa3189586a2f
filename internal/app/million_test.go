//go:build !race

package app_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/store/sqlite"
)

// A record of a million events, and what its owner may try: everything but to sign
// what somebody has seen otherwise (R4).
const million = 1_000_000

// record is a log on the disk that servers come and go on.
type record struct {
	*testing.T
	dir      string
	contract *apptest.Contract
	admin    [2]string // of the first admin agent, id and secret
	key      note.Verifier
}

// fill appends events until the log has that many.
func (r *record) fill(dir string, size int64, reason string) {
	r.Helper()
	s, err := sqlite.Open(r.Context(), filepath.Join(dir, "agentidp.db"))
	if err != nil {
		r.Fatal(err)
	}
	defer s.Close()
	tree, err := s.Tree(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	for n := tree.Head; n < size; {
		records := make([]audit.Record, min(1000, size-n))
		for i := range records {
			now := time.Now()
			records[i].Event = audit.Origin{Actor: audit.Actor{Type: audit.TypeAgent, ID: "a"}, RequestID: "r", SourceIP: "192.0.2.1"}.
				Event(now, organization.DefaultID(), audit.TokenIssued, audit.Target{Type: audit.TypeToken, ID: "t"}).
				About(organization.DefaultID()).Because(reason).
				With(audit.Details{}.String("scope", "files:read").Time("expiresAt", now.Add(time.Hour)))
		}
		if _, err := s.AppendRecords(r.Context(), records); err != nil {
			r.Fatal(err)
		}
		n += int64(len(records))
	}
}

// serving runs a server on the folder while do works with it.
func (r *record) serving(dir string, do func(s *apptest.Server)) {
	r.Helper()
	s := apptest.StartIn(r.T, dir, r.contract, "JWT_ISSUER=http://million.test")
	if s.AdminID != "" {
		r.admin = [2]string{s.AdminID, s.AdminSecret}
	}
	s.AdminID, s.AdminSecret = r.admin[0], r.admin[1]
	do(s)
	s.Stop()
}

// covered waits until the tree covers every event.
func (r *record) covered(s *apptest.Server) {
	r.Helper()
	db := apptest.OpenDatabase(r.T, s.Database())
	defer db.Close()
	until(r.T, "the tree covers every event", func() bool {
		var behind int64
		if err := db.QueryRowContext(r.Context(), "SELECT h.sequence - t.published_size FROM audit_head h, audit_tree t").Scan(&behind); err != nil {
			r.Fatal(err)
		}
		return behind == 0
	})
}

// export gives the whole record with its proofs, as an auditor of the operator gets it.
func (r *record) export(s *apptest.Server) io.ReadCloser {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, s.URL+"/audit/export?proof=true&all=true", nil)
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.Admin())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		r.Fatalf("the export is answered %d %s", resp.StatusCode, body)
	}
	return resp.Body
}

// verify has an outsider look at the record, who may remember checkpoints.
func (r *record) verify(s *apptest.Server, remembered map[int64]tlog.Hash) (*outsider, error) {
	r.Helper()
	o := &outsider{key: r.key, remembered: remembered}
	body := r.export(s)
	defer body.Close()
	return o, o.verify(body)
}

func TestAMillionEventsAndEveryForgery(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute or more")
	}
	contract, err := apptest.LoadContract()
	if err != nil {
		t.Fatal(err)
	}
	r := &record{T: t, dir: t.TempDir(), contract: contract}
	r.serving(r.dir, func(s *apptest.Server) {
		key := s.Call(http.MethodGet, "/audit/key", "", "")
		if r.key, err = note.NewVerifier(strings.TrimSpace(string(key.Body))); err != nil {
			t.Fatal(err)
		}
	})
	const early, seen = 20_000, 30_000
	r.fill(r.dir, early, "")
	r.serving(r.dir, r.covered)
	yesterday := t.TempDir()
	if err := os.CopyFS(yesterday, os.DirFS(r.dir)); err != nil {
		t.Fatal(err)
	}
	r.fill(r.dir, seen, "")
	remembered := map[int64]tlog.Hash{}
	r.serving(r.dir, func(s *apptest.Server) {
		o, err := r.verify(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		remembered[o.size] = o.root
	})
	began := time.Now()
	r.fill(r.dir, million, "")
	t.Logf("a million events were written in %s", time.Since(began).Round(time.Millisecond))
	r.serving(r.dir, func(s *apptest.Server) {
		began = time.Now()
		r.covered(s)
		t.Logf("the tree covered them after %s", time.Since(began).Round(time.Millisecond))
		began = time.Now()
		o, err := r.verify(s, remembered)
		if err != nil || o.size <= million {
			t.Fatalf("the record of %d events is refused: %v", o.leaves, err)
		}
		t.Logf("they were exported and verified in %s", time.Since(began).Round(time.Millisecond))
		r.forgeries(s, remembered)
		remembered[o.size] = o.root
	})
	r.serving(yesterday, func(s *apptest.Server) {
		o, err := r.verify(s, nil)
		if err != nil {
			t.Fatalf("yesterday's record, taken by itself: %v", err)
		}
		if _, err := r.verify(s, remembered); err == nil {
			t.Error("a database restored from yesterday was accepted")
		}
		delete(remembered, o.size)
	})
	// Whoever has the database and the server's secrets can sign another history.
	for size := range remembered {
		if size > seen+1000 {
			delete(remembered, size)
		}
	}
	r.fill(yesterday, seen+2000, "another history")
	r.serving(yesterday, func(s *apptest.Server) {
		if _, err := r.verify(s, nil); err != nil {
			t.Fatalf("the fork, taken by itself: %v", err)
		}
		if _, err := r.verify(s, remembered); err == nil {
			t.Error("a forked log was accepted")
		}
	})
}

// forgeries changes the record by SQL, as the owner of the database with the triggers
// off, and undoes it.
func (r *record) forgeries(s *apptest.Server, remembered map[int64]tlog.Hash) {
	r.Helper()
	db := apptest.OpenDatabase(r.T, s.Database())
	defer db.Close()
	exec := func(statements ...string) {
		r.Helper()
		for _, statement := range statements {
			if _, err := db.ExecContext(r.Context(), statement); err != nil {
				r.Fatalf("%s: %v", statement, err)
			}
		}
	}
	var triggers string
	if err := db.QueryRowContext(r.Context(), "SELECT group_concat('DROP TRIGGER ' || name, '; ') FROM sqlite_master WHERE type = 'trigger'").Scan(&triggers); err != nil {
		r.Fatal(err)
	}
	exec(triggers)
	exec("CREATE TABLE kept AS SELECT * FROM audit_events WHERE sequence BETWEEN 499999 AND 500002",
		"CREATE TABLE kept_tiles AS SELECT * FROM audit_tiles WHERE level = 0 AND n = 499999 / 256",
		"CREATE TABLE newest AS SELECT * FROM audit_events WHERE sequence = (SELECT published_size FROM audit_tree)")
	const lie = "UPDATE audit_events SET body = CAST(replace(CAST(body AS TEXT), 'files:read', 'files:reaD') AS BLOB) WHERE sequence = 500000"
	undo := []string{
		"INSERT OR REPLACE INTO audit_events SELECT * FROM kept", "INSERT OR REPLACE INTO audit_tiles SELECT * FROM kept_tiles",
		"INSERT OR REPLACE INTO audit_events SELECT * FROM newest",
	}
	for name, forgery := range map[string][]string{
		"one byte changed": {lie},
		"one byte changed, and its leaf in the tree": {
			lie, "UPDATE audit_tiles SET hashes = CAST(substr(hashes, 1, 32 * (499999 % 256)) || randomblob(32) || substr(hashes, 32 * (499999 % 256) + 33) AS BLOB) WHERE level = 0 AND n = 499999 / 256",
		},
		"an event that is no event":   {"UPDATE audit_events SET body = x'0a' WHERE sequence = 500000"},
		"one removed from the middle": {"DELETE FROM audit_events WHERE sequence = 500000"},
		"the newest removed":          {"DELETE FROM audit_events WHERE sequence = (SELECT sequence FROM newest)"},
		"two swapped": {
			"UPDATE audit_events SET body = (SELECT body FROM kept WHERE sequence = 500001) WHERE sequence = 500000",
			"UPDATE audit_events SET body = (SELECT body FROM kept WHERE sequence = 500000) WHERE sequence = 500001",
		},
	} {
		exec(forgery...)
		r.refused(s, name, remembered)
		exec(undo...)
	}
	if _, err := r.verify(s, remembered); err != nil {
		r.Fatalf("after every forgery was undone the record is refused: %v", err)
	}
	// This one is not undone, as all that comes after it moves.
	exec("UPDATE audit_events SET sequence = -sequence - 1 WHERE sequence >= 999950", "UPDATE audit_events SET sequence = -sequence WHERE sequence < 0",
		"UPDATE audit_head SET sequence = sequence + 1",
		"INSERT INTO audit_events SELECT 999950, '"+uuid.NewString()+"', organization_id, time, agent_id, actor_id, action, outcome, body FROM kept WHERE sequence = 500000")
	r.refused(s, "one inserted", remembered)
}

// refused wants the record to be refused, and says why it was.
func (r *record) refused(s *apptest.Server, forgery string, remembered map[int64]tlog.Hash) {
	r.Helper()
	_, err := r.verify(s, remembered)
	if err == nil {
		r.Errorf("%s: accepted", forgery)
	}
	r.Logf("%s: %v", forgery, err)
}
