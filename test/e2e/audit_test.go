package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// issue gets tokens, so that there is something on record.
func (s *server) issue(t *testing.T, c credential, tokens int) {
	t.Helper()
	for range tokens {
		s.token(t, c, "agents:read")
	}
}

// copyFile copies what is closed, or whole anyway.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// copyData copies the data directory of a server that is stopped.
func copyData(t *testing.T, dir string) string {
	t.Helper()
	other := t.TempDir()
	if err := os.CopyFS(filepath.Join(other, "data"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(other, "data")
}

// TestTheRecordIsVerifiedFromOutside exports the record and verifies it, over the
// network, from a file and event by event (R4).
func TestTheRecordIsVerifiedFromOutside(t *testing.T) {
	s := start(t, t.TempDir(), auditEnv...)
	admin := s.first(t)
	env := auditor(admin)
	bearer := s.token(t, admin, management)
	s.register(t, bearer, "outside")
	s.issue(t, admin, 50)
	key, _ := s.logKey(t)
	dir := t.TempDir()
	state, keyFile, file := filepath.Join(dir, "state"), filepath.Join(dir, "log.key"), filepath.Join(dir, "events.ndjson")
	if err := os.WriteFile(keyFile, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	over := []string{"audit", "verify", "--url", s.base, "--all", "--state", state}
	first := exits(t, 0, env, []string{"warning: no key was given", key, "nothing was remembered", "nothing is missing"}, over...)
	size, events, _ := right(t, first)
	if events < 53 || events != size {
		t.Errorf("%d events of %d leaves", events, size)
	}
	again := exits(t, 0, env, []string{fmt.Sprintf("it had %d leaves, and still has them", size)}, over...)
	if strings.Contains(again.stderr, "warning") {
		t.Errorf("the second time it says: %s", again.stderr)
	}
	right(t, exits(t, 0, env, nil, "audit", "verify", "--url", s.base, "--key", keyFile)) // of one organization

	exits(t, 0, env, []string{"the export is in " + file}, "audit", "export", "--url", s.base, "--all", "--proof", "-o", file)
	right(t, exits(t, 0, nil, nil, "audit", "verify", file, "--all", "--key", keyFile, "--state", state))
	s.formats(t, env, file)
	s.receipt(t, admin, bearer, keyFile, state)
	refusedFiles(t, file, keyFile)
}

// formats compares what the formats hold.
func (s *server) formats(t *testing.T, env []string, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	proven, _ := readExport(t, bytes.NewReader(content))
	for _, format := range []string{"ndjson", "ocsf", "csv"} {
		got := exits(t, 0, env, nil, "audit", "export", "--url", s.base, "--all", "--format", format).stdout
		lines := strings.Count(got, "\n")
		if format == "csv" {
			lines-- // the header
		}
		if lines <= len(proven) {
			t.Errorf("%s: %d events, and there were %d before", format, lines, len(proven))
		}
		for _, e := range proven {
			if !strings.Contains(got, e.ID) {
				t.Errorf("%s: event %d is not there", format, e.Sequence)
			}
		}
	}
	after := proven[len(proven)-1].Sequence
	rest, _ := readExport(t, strings.NewReader(exits(t, 0, env, nil, "audit", "export", "--url", s.base, "--all", "--after", fmt.Sprint(after)).stdout))
	if len(rest) == 0 || rest[0].Sequence != after+1 {
		t.Errorf("after %d come %v", after, rest)
	}
}

// receipt asks for a receipt, and verifies what it stands for offline.
func (s *server) receipt(t *testing.T, c credential, bearer, keyFile, state string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.base+"/oauth2/token", strings.NewReader(url.Values{"grant_type": {"client_credentials"}, "scope": {"agents:read"}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Prefer", "audit-receipt")
	req.SetBasicAuth(c.ClientID, c.ClientSecret)
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	id := resp.Header.Get("Audit-Event-Id")
	if resp.StatusCode != http.StatusOK || id == "" {
		t.Fatalf("a token with a receipt: %d %v", resp.StatusCode, resp.Header)
	}
	proven := s.mustCall(t, http.MethodGet, "/audit/events/"+id+"/proof", bearer, nil, http.StatusOK)
	file := filepath.Join(t.TempDir(), "receipt.json")
	if err := os.WriteFile(file, proven.body, 0o600); err != nil {
		t.Fatal(err)
	}
	exits(t, 0, nil, []string{"the proof is right", id, "token.issued"}, "audit", "verify", "--proof", file, "--key", keyFile, "--state", state+"-proofs")
	answer := decode[struct{ TreeSize int }](t, proven)
	other := bytes.Replace(proven.body, fmt.Appendf(nil, `"treeSize":%d`, answer.TreeSize), fmt.Appendf(nil, `"treeSize":%d`, answer.TreeSize+1), 1)
	if err := os.WriteFile(file, other, 0o600); err != nil {
		t.Fatal(err)
	}
	exits(t, 2, nil, []string{"the record is wrong"}, "audit", "verify", "--proof", file, "--key", keyFile)
}

// refusedFiles changes an export in ways that must not pass.
func refusedFiles(t *testing.T, file, keyFile string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(content), "\n")
	refused := func(lines []string, says ...string) {
		t.Helper()
		other := filepath.Join(t.TempDir(), "other.ndjson")
		if err := os.WriteFile(other, []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		exits(t, 2, nil, says, "audit", "verify", other, "--all", "--key", keyFile)
	}
	at := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, `{"sequence":10,`) })
	swapped := slices.Clone(lines)
	swapped[at], swapped[at+1] = swapped[at+1], swapped[at]
	refused(swapped, "reordered, first at event 10")
	changed := slices.Clone(lines)
	changed[at] = strings.Replace(changed[at], `"outcome":"success"`, `"outcome":"sUccess"`, 1)
	refused(changed, "altered, first at event 10")
	refused(slices.Delete(slices.Clone(lines), at, at+1), "missing, first at event 10")
	refused(slices.Insert(slices.Clone(lines), at, lines[at]), "reordered, first at event 10")
	refused(lines[:len(lines)-2], "cut off")
}

var tamperings = map[string]struct {
	sql  string
	says string
}{
	"one byte changed": {
		`UPDATE audit_events SET body = CAST(replace(CAST(body AS TEXT), '"outcome":"success"', '"outcome":"sUccess"') AS BLOB) WHERE sequence = 20`,
		`altered, first at event 20 \(%s\)`,
	},
	"an event removed": {`DELETE FROM audit_events WHERE sequence = 20`, `unexplained gap, first at event 20`},
	"two swapped": {
		`UPDATE audit_events SET body = (SELECT b.body FROM audit_events b WHERE b.sequence = 41 - audit_events.sequence) WHERE sequence IN (20, 21)`,
		`altered, first at event 20 \(`,
	},
}

// TestATamperedDatabaseIsNoticed changes the database of a stopped server as its owner
// can, triggers dropped, and starts the server again: audit verify names the event (R4).
func TestATamperedDatabaseIsNoticed(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, auditEnv...)
	admin := s.first(t)
	s.issue(t, admin, 60)
	key, verifier := s.logKey(t)
	s.covers(t, embedded(t, filepath.Join(dir, "agentidp.db")), verifier)
	s.stop(t)
	for name, tampering := range tamperings {
		t.Run(name, func(t *testing.T) {
			dir := copyData(t, dir)
			id := tamper(t, dir, tampering.sql)
			s := start(t, dir, auditEnv...)
			r := exits(t, 2, auditor(admin), []string{"the record is wrong"}, "audit", "verify", "--url", s.base, "--all", "--key", key)
			says := strings.Replace(tampering.says, "%s", id, 1)
			if !regexp.MustCompile(says).MatchString(r.stderr) {
				t.Errorf("it says %q, want %s", r.stderr, says)
			}
		})
	}
}

// triggers names those that guard the record.
func (o owner) triggers() (names []string) {
	o.t.Helper()
	rows, err := o.db.Query("SELECT name FROM sqlite_master WHERE type = 'trigger'")
	if err != nil {
		o.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			o.t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil || len(names) == 0 {
		o.t.Fatalf("%d triggers, %v", len(names), err)
	}
	return names
}

// tamper runs SQL without the triggers, and gives the id that event 20 had.
func tamper(t *testing.T, dir, statement string) (id string) {
	t.Helper()
	db := embedded(t, filepath.Join(dir, "agentidp.db"))
	for _, name := range db.triggers() {
		db.exec("DROP TRIGGER " + name)
	}
	if err := db.db.QueryRow("SELECT id FROM audit_events WHERE sequence = 20").Scan(&id); err != nil {
		t.Fatal(err)
	}
	db.exec(statement)
	if err := db.db.Close(); err != nil {
		t.Fatal(err)
	}
	return id
}

// TestARestoredDatabaseIsNoticed puts an older copy of the database in its place. The
// checkpoint that is remembered refuses it: while it is smaller as a log that was cut,
// and when it has grown past it as one that was forked (R4).
func TestARestoredDatabaseIsNoticed(t *testing.T) {
	dir, older := t.TempDir(), t.TempDir()
	s := start(t, dir, auditEnv...)
	admin := s.first(t)
	s.issue(t, admin, 20)
	key, verifier := s.logKey(t)
	s.covers(t, embedded(t, filepath.Join(dir, "agentidp.db")), verifier)
	mustRun(t, dir, auditEnv, "backup", "--to", filepath.Join(older, "agentidp.db"))
	copyFile(t, filepath.Join(dir, "jwt-secret"), filepath.Join(older, "jwt-secret"))
	s.issue(t, admin, 100)
	verify := func(base string, code int, says ...string) result {
		t.Helper()
		return exits(t, code, auditor(admin), says, "audit", "verify", "--url", base, "--all", "--key", key, "--state", filepath.Join(dir, "state"))
	}
	size, _, _ := right(t, verify(s.base, 0))
	s.stop(t)

	s = start(t, older, auditEnv...)
	verify(s.base, 2, "rolled back", "keep this, it is the proof")
	s.issue(t, admin, 120)
	verify(s.base, 2, "forked", "keep this, it is the proof")
	s.stop(t)

	s = start(t, dir, auditEnv...)
	verify(s.base, 0, fmt.Sprintf("it had %d leaves, and still has them", size))
}
