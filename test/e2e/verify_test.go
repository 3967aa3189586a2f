package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// auditor is somebody outside who checks the record with the commands.
type auditor struct {
	t     *testing.T
	env   []string
	state string
}

// audit runs a command of the auditor's and checks its exit code.
func (a *auditor) audit(code int, says []string, args ...string) result {
	a.t.Helper()
	r := run(a.t, a.t.TempDir(), a.env, append([]string{"audit"}, args...)...)
	if r.code != code {
		a.t.Fatalf("agentidp audit %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	contains(a.t, r.stdout+r.stderr, says...)
	return r
}

func (a *auditor) verify(s *server, code int, says ...string) {
	a.t.Helper()
	a.audit(code, says, "verify", "--url", "http://"+s.address, "--all", "--state", a.state)
}

// The record of a real server verifies; a file that somebody changed, a database that
// was restored from yesterday, and the log that then goes another way do not.
func TestAnAuditorSeesWhatWasDoneToTheRecord(t *testing.T) {
	dir, yesterday := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "yesterday")
	s := start(t, dir)
	admin := s.first(t)
	a := &auditor{t: t, env: []string{"AGENTIDP_CLIENT_ID=" + admin.ClientID, "AGENTIDP_CLIENT_SECRET=" + admin.ClientSecret}, state: filepath.Join(t.TempDir(), "state.json")}
	a.verify(s, 0, "warning: no key was given", "the record is right", "nothing is missing", "nothing was remembered")

	file := filepath.Join(t.TempDir(), "events.ndjson")
	a.audit(0, []string{"the export is in"}, "export", "--url", "http://"+s.address, "--proof", "--all", "-o", file)
	a.audit(0, []string{"the record is right", "and still has them"}, "verify", file, "--all", "--state", a.state)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(t.TempDir(), "changed.ndjson")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(content), `"agent.created"`, `"agent.updated"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	a.audit(2, []string{"altered, first at event 1 ("}, "verify", changed, "--state", a.state)

	s.stop(t)
	if err := os.CopyFS(yesterday, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir)
	for range 20 {
		s.token(t, admin, "audit:read")
	}
	a.verify(s, 0, "the record is right", "and still has them")
	s.stop(t)

	s = start(t, yesterday)
	a.verify(s, 2, "rolled back", "keep this, it is the proof")
	for range 25 {
		s.token(t, admin, "audit:read")
	}
	a.verify(s, 2, "forked", "keep this, it is the proof")
	s.stop(t)

	s = start(t, dir)
	a.verify(s, 0, "and still has them")
}
