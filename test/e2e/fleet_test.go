package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fleetSize is how many agents the tests of imports take: E2E_FLEET, else a few thousand.
func fleetSize(t *testing.T) int {
	t.Helper()
	text := os.Getenv("E2E_FLEET")
	if text == "" {
		return 5000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("E2E_FLEET=%s: give a number of agents", text)
	}
	return n
}

// fleetFile writes a file of n agents as an export has them, and gives its lines in order
// of their text.
func fleetFile(t *testing.T, n int) (path string, lines []string) {
	t.Helper()
	for i := range n {
		ttl, status := "null", "active"
		if i%3 == 0 {
			ttl = "900"
		}
		if i%10 == 0 {
			status = "suspended"
		}
		lines = append(lines, fmt.Sprintf(`{"email":"fleet-%06d@example.com","agentType":"kind-%d","version":"v1.%d.0","capabilities":["files:read","kind:k%d"],"owner":"team %d ä","deploymentEnv":"production","metadata":{"n":%d},"tokenTtlSeconds":%s,"status":"%s"}`,
			i, i%7, i%20, i%5, i%50, i, ttl, status))
	}
	path = filepath.Join(t.TempDir(), "fleet.ndjson")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return path, lines
}

// as gives the environment of a command that speaks to the server as the client.
func (s *server) as(c credential) []string {
	return []string{"AGENTIDP_URL=" + s.base, "AGENTIDP_CLIENT_ID=" + c.ClientID, "AGENTIDP_CLIENT_SECRET=" + c.ClientSecret}
}

var summaryLine = regexp.MustCompile(`(?m)^(\d+) lines: (\d+) created, (\d+) unchanged, (\d+) failed`)

// summary reads what an import says in the end.
func summary(t *testing.T, text string) (lines, created, unchanged, failed int) {
	t.Helper()
	m := summaryLine.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no summary in %q", text)
	}
	for i, to := range []*int{&lines, &created, &unchanged, &failed} {
		*to, _ = strconv.Atoi(m[i+1])
	}
	return lines, created, unchanged, failed
}

// background starts a command that is not waited for.
func background(t *testing.T, dataDir string, env []string, args ...string) (o *output, wait func() error, kill func()) {
	t.Helper()
	cmd := command(context.WithoutCancel(t.Context()), t, dataDir, env, args...)
	o = &output{}
	cmd.Stdout, cmd.Stderr = o, o
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	kill = func() { _ = cmd.Process.Kill() }
	t.Cleanup(kill)
	wait = func() error {
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * patience):
			t.Fatalf("agentidp %s did not end\n%s", strings.Join(args, " "), o.String())
			return nil
		}
	}
	return o, wait, kill
}

func countLines(path string) int {
	text, _ := os.ReadFile(path) // not there yet: none
	return bytes.Count(text, []byte("\n"))
}

// resultSize is about how long the result of a line is that was created, in bytes.
const resultSize = 180

// fileSize does not read the file, which would take the machine from those who write it.
func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0 // not there yet
	}
	return info.Size()
}

// TestAFleetIsImportedExportedAndCompared kills an import half-way, starts it again, and
// holds what is exported against what was imported, field by field (R36, R1).
func TestAFleetIsImportedExportedAndCompared(t *testing.T) {
	n := fleetSize(t)
	file, lines := fleetFile(t, n)
	s := start(t, t.TempDir(), "RATE_LIMIT=off")
	env := s.as(s.first(t))
	results := filepath.Join(t.TempDir(), "results.ndjson")

	began := time.Now()
	o, wait, kill := background(t, t.TempDir(), env, "agents", "import", file, "--results", results)
	for size := int64(0); size < int64(n/2*resultSize); { // however long it takes, it goes on
		had := size
		waitFor(t, "more results", func() bool { size = fileSize(results); return size > had })
	}
	kill()
	if err := wait(); err == nil {
		t.Fatalf("the import ended before it was killed: %s", o.String())
	}
	before := countLines(results)
	_, wait, _ = background(t, t.TempDir(), env, "agents", "import", file, "--results", results)
	if err := wait(); err != nil {
		t.Fatalf("the import that was started again: %v", err)
	}
	took := time.Since(began)
	text, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	// Every agent was created once, whichever of the two heard of it.
	ids, created := map[string]string{}, 0
	for line := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
		var r struct{ Email, ID, Result string }
		if json.Unmarshal([]byte(line), &r) != nil {
			continue // the one that was cut off by the kill
		}
		if had, ok := ids[r.Email]; ok && had != r.ID || r.ID == "" {
			t.Fatalf("%s is %s and %s", r.Email, had, r.ID)
		}
		ids[r.Email] = r.ID
		if r.Result == "created" {
			created++
		}
	}
	if len(ids) != n || created > n {
		t.Errorf("%d agents have results, %d created ones, want %d", len(ids), created, n)
	}
	if before >= n {
		t.Errorf("the first import was not broken off: it had %d results", before)
	}

	exportBegan := time.Now()
	exported := filepath.Join(t.TempDir(), "export.ndjson")
	mustRun(t, t.TempDir(), env, "agents", "export", "-o", exported, "--type", "kind-0")
	all := mustRun(t, t.TempDir(), env, "agents", "export").stdout
	exportTook := time.Since(exportBegan)
	var got []string
	for line := range strings.SplitSeq(strings.TrimSpace(all), "\n") {
		if !strings.Contains(line, `"email":"admin@`) {
			got = append(got, line)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, lines) {
		t.Errorf("%d agents were exported, %d imported, and they differ", len(got), len(lines))
	}
	if want := (n + 6) / 7; countLines(exported) != want {
		t.Errorf("%d agents of one type, want %d", countLines(exported), want)
	}

	againBegan := time.Now()
	r := mustRun(t, t.TempDir(), env, "agents", "import", exported)
	if lines, created, _, failed := summary(t, r.stdout); lines != (n+6)/7 || created != 0 || failed != 0 {
		t.Errorf("an export imported again: %s", r.stdout)
	}
	t.Logf("%d agents: imported in %s with a kill at %d, exported twice in %s, a seventh found unchanged in %s", n, took, before, exportTook, time.Since(againBegan))
}

// TestAnImportOutlivesTheServer kills the server half-way through an import and starts it
// again: the import goes on by itself, and every agent and every event is there once.
func TestAnImportOutlivesTheServer(t *testing.T) {
	const n = 3000
	file, _ := fleetFile(t, n)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := start(t, dir, "RATE_LIMIT=off", "PORT="+port)
	admin := s.first(t)
	results := filepath.Join(t.TempDir(), "results.ndjson")
	o, wait, _ := background(t, t.TempDir(), s.as(admin), "agents", "import", file, "--results", results)
	waitFor(t, "some results", func() bool { return fileSize(results) >= int64(n/3*resultSize) })
	s.kill(t)
	s = start(t, dir, "RATE_LIMIT=off", "PORT="+port)
	if err := wait(); err != nil {
		t.Fatalf("the import: %v\n%s", err, o.String())
	}
	if lines, created, unchanged, failed := summary(t, o.String()); lines != n || failed != 0 || created+unchanged != n {
		t.Errorf("the summary is %s", o.String())
	}
	exported := mustRun(t, t.TempDir(), s.as(admin), "agents", "export").stdout
	events := mustRun(t, t.TempDir(), s.as(admin), "audit", "export", "--url", s.base).stdout
	if agents, records := strings.Count(exported, `"email":"fleet-`), strings.Count(events, `"action":"agent.created"`); agents != n || records < n || records > n+1 {
		t.Errorf("%d agents and %d records of their making, want %d (and the admin's)", agents, records, n)
	}
}
