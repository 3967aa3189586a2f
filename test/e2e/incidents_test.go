package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/redistest"
)

// keep writes a file that only its owner reads, and gives its path.
func keep(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// secretIn reads what a script left for an agent.
func secretIn(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// TestRunbookCompromisedAgent has a leaked secret replaced, an agent switched off, and the
// agent come back with nothing that a thief may have (R39).
func TestRunbookCompromisedAgent(t *testing.T) {
	dir := t.TempDir()
	s := start(t, t.TempDir(), runbookEnv...)
	admin := s.first(t)
	bearer := s.token(t, admin, management)
	made := s.register(t, bearer, "leaky")
	victim := made.Credential
	victim.ClientID = made.ID
	old := keep(t, dir, "old.token", s.token(t, victim, "invoices:read"))
	env := []string{
		"IDP=" + s.base, "ADMIN_ID=" + admin.ClientID, "ADMIN_SECRET_FILE=" + keep(t, dir, "admin", admin.ClientSecret+"\n"), "AGENT=" + made.ID,
		"OLD_TOKEN=" + old, "LEAKED_SECRET_FILE=" + keep(t, dir, "leaked", victim.ClientSecret),
	}
	refuses(t, "compromised-agent", env, "CREDENTIAL is not set", "secret")
	refuses(t, "compromised-agent", append(env, "NEW_SECRET_FILE="+dir+"/none"), "is active, not suspended", "return")

	second := filepath.Join(dir, "second")
	out := runbook(t, "compromised-agent", append(env, "CREDENTIAL="+victim.ID, "NEW_SECRET_FILE="+second), "secret")
	contains(t, out, "a token from before is dead", "the leaked secret gets no token", "token.issued", "== done in ")
	t.Log(lastLines(out, 1))
	if strings.Contains(out, "sidp_") {
		t.Errorf("the script prints a secret:\n%s", out)
	}
	next := credential{ClientID: made.ID, ClientSecret: secretIn(t, second)}
	if err := os.WriteFile(old, []byte(s.token(t, next, "invoices:read")), 0o600); err != nil {
		t.Fatal(err)
	}

	out = runbook(t, "compromised-agent", env, "agent")
	contains(t, out, "no node gives it a token", "agent.suspended", "== done in ")
	t.Log(lastLines(out, 1))
	refuses(t, "compromised-agent", env, "was not suspended", "agent")
	if r, err := s.tokenReply(next, "invoices:read"); err != nil || r.status != http.StatusUnauthorized {
		t.Errorf("the suspended agent: %d %s %v", r.status, r.body, err)
	}

	third := filepath.Join(dir, "third")
	out = runbook(t, "compromised-agent", append(env, "NEW_SECRET_FILE="+third), "return")
	t.Log(lastLines(out, 1))
	s.token(t, credential{ClientID: made.ID, ClientSecret: secretIn(t, third)}, "invoices:read")
	if r, err := s.tokenReply(next, "invoices:read"); err != nil || r.status != http.StatusUnauthorized {
		t.Errorf("the secret of before: %d %s %v", r.status, r.body, err)
	}
}

// TestRunbookAuditVerification changes an event behind the server's back; the script keeps
// what shows it, and a restore from before verifies again (R4, R39).
func TestRunbookAuditVerification(t *testing.T) {
	dir, data, backups, port := t.TempDir(), t.TempDir(), t.TempDir(), freePort(t)
	s := start(t, data, append(runbookEnv, "PORT="+port)...)
	admin := s.first(t)
	bearer := s.token(t, admin, management)
	for i := range 5 {
		s.register(t, bearer, fmt.Sprintf("kept-%d", i))
	}
	database := embedded(t, filepath.Join(data, "agentidp.db"))
	key, verifier := s.logKey(t)
	s.covers(t, database, verifier)
	env := []string{
		"IDP=" + s.base, "AGENTIDP_CLIENT_ID=" + admin.ClientID, "AGENTIDP_CLIENT_SECRET_FILE=" + keep(t, dir, "admin", admin.ClientSecret),
		"STATE=" + filepath.Join(dir, "state"), "LOG_KEY=" + key,
	}
	good, bad, restored := filepath.Join(dir, "good"), filepath.Join(dir, "bad"), filepath.Join(dir, "restored")
	contains(t, runbook(t, "audit-verification", append(env, "EVIDENCE="+good), "gather"), "the record is right")
	refuses(t, "audit-verification", append(env, "EVIDENCE="+good), "never written over", "gather")
	runbook(t, "embedded-backup", append([]string{"DATA_DIR=" + data, "BACKUP_DIR=" + backups}, runbookEnv...), "backup")

	triggers := database.texts("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_events'")
	for _, name := range triggers {
		database.exec("DROP TRIGGER " + name)
	}
	database.exec("UPDATE audit_events SET body = CAST(replace(CAST(body AS TEXT), 'success', 'denied') AS BLOB) WHERE sequence = 4")

	r := tryRunbook(t, "audit-verification", append(env, "EVIDENCE="+bad), "gather")
	if r.code != 2 {
		t.Errorf("a changed event: exit code %d, want 2\n%s%s", r.code, r.stdout, r.stderr)
	}
	contains(t, r.stdout, "the record is WRONG", "4")
	t.Log(lastLines(r.stdout, 1))
	for _, name := range []string{"checkpoint", "key", "verify.txt", "SHA256SUMS"} {
		if info, err := os.Stat(filepath.Join(bad, name)); err != nil || info.Size() == 0 {
			t.Errorf("the evidence lacks %s: %v", name, err)
		}
	}
	// An export of before beside one that somebody made as if nothing were.
	events := secretIn(t, filepath.Join(good, "events.ndjson"))
	forged := strings.Replace(events, `{"sequence":4,"leafHash":"`, `{"sequence":4,"leafHash":"A`, 1)
	out := runbook(t, "audit-verification", []string{"GOOD=" + good + "/events.ndjson", "BAD=" + keep(t, dir, "forged", forged)}, "compare")
	contains(t, out, "the first event that differs is 4")
	out = runbook(t, "audit-verification", []string{"GOOD=" + good + "/events.ndjson", "BAD=" + good + "/events.ndjson"}, "compare")
	contains(t, out, "no event that both have differs")

	copies, err := filepath.Glob(filepath.Join(backups, "*"))
	if err != nil || len(copies) != 1 {
		t.Fatalf("%d copies, %v", len(copies), err)
	}
	endsLater(t, dir)
	_ = database.db.Close()
	out = runbook(t, "embedded-backup", append([]string{
		"DATA_DIR=" + data, "BACKUP_DIR=" + backups, "BACKUP=" + copies[0], "STOP=" + killing(s.cmd.Process.Pid), "HEALTH_URL=" + "http://127.0.0.1:" + port,
		"START=cd " + dir + "; PORT=" + port + " setsid " + binary + " serve >serve.log 2>&1 </dev/null & echo $! >" + dir + "/serve.pid",
	}, runbookEnv...), "restore")
	t.Log(lastLines(out, 1))
	back := at(t, port)
	r = tryRunbook(t, "audit-verification", append(env, "IDP="+back.base, "EVIDENCE="+restored, "STATE="+filepath.Join(dir, "new-state")), "gather")
	if r.code != 0 {
		t.Errorf("after the restore: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// texts gives the one column of a query.
func (o owner) texts(query string) (all []string) {
	o.t.Helper()
	rows, err := o.db.Query(query)
	if err != nil {
		o.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			o.t.Fatal(err)
		}
		all = append(all, text)
	}
	if err := rows.Err(); err != nil {
		o.t.Fatal(err)
	}
	return all
}

// TestRunbookRedisDown takes Redis away under load: no request fails, and the script brings
// every node back to it (R7, R39).
func TestRunbookRedisDown(t *testing.T) {
	cache := redistest.Start(t)
	c := startNodes(t, 2, startPostgres(t).URL("postgres"), "REDIS_URL="+cache.URL(), "RATE_LIMIT=on", "RATE_LIMIT_SOURCE=10000000", "RATE_LIMIT_CLIENT=10000000")
	var nodes []string
	for _, n := range c.nodes {
		nodes = append(nodes, n.base)
	}
	env := append(append([]string{}, c.env...), "NODES="+strings.Join(nodes, " "))
	redisIs := func(state string) func() bool {
		return func() bool {
			return strings.Contains(tryRunbook(t, "redis-down", env, "look").stdout, state)
		}
	}
	waitFor(t, "every node to use Redis", redisIs("all nodes reach Redis"))
	bearer := c.nodes[0].token(t, c.admin, management)
	client := c.nodes[0].register(t, bearer, "runbook").Credential
	load := startTraffic(t, "redis", client, bearer, c.spread)

	cache.Kill()
	waitFor(t, "the nodes to notice", redisIs("away from all nodes"))
	load.more(200)
	refuses(t, "redis-down", env, "START is not set", "restore")
	restarted := filepath.Join(t.TempDir(), "redis.pid")
	endsLater(t, filepath.Dir(restarted))
	start := fmt.Sprintf("redis-server --port %d --bind 127.0.0.1 --save '' --appendonly no --dir %s >/dev/null 2>&1 </dev/null & echo $! >%s", cache.Port, filepath.Dir(restarted), restarted)
	out := runbook(t, "redis-down", append(env, "START="+start), "restore")
	contains(t, out, "uses Redis again", "== done in ")
	t.Log(lastLines(out, 1))
	load.more(200)
	load.stop()
	if load.failures.Load() > 0 {
		t.Errorf("%d requests failed while Redis was away", load.failures.Load())
	}
	contains(t, runbook(t, "redis-down", env, "look"), "all nodes reach Redis")
}

// TestRunbookRateLimitStorm finds the agent that asks and asks, and silences it (R38, R39).
func TestRunbookRateLimitStorm(t *testing.T) {
	dir := t.TempDir()
	s := start(t, t.TempDir(), append(runbookEnv, "RATE_LIMIT=on", "RATE_LIMIT_CLIENT=60", "RATE_LIMIT_SOURCE=1000000")...)
	admin := s.first(t)
	wild := s.register(t, s.token(t, admin, management), "wild")
	logs := func() string { return keep(t, dir, "server.log", s.stdout.String()) }
	contains(t, runbook(t, "rate-limit-storm", []string{"LOGS=" + logs()}, "who"), "nobody was turned away")

	refused := 0
	for range 400 {
		r, err := s.tokenReply(credential{ClientID: wild.ID, ClientSecret: wild.Credential.ClientSecret}, "invoices:read")
		if err != nil {
			t.Fatal(err)
		}
		if r.status == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused == 0 {
		t.Fatal("400 requests at once were all answered, with a limit of 60")
	}
	out := runbook(t, "rate-limit-storm", []string{"LOGS=" + logs()}, "who")
	contains(t, out, "127.0.0.1", wild.ID, "POST /oauth2/token")

	out = runbook(t, "rate-limit-storm", []string{"IDP=" + s.base, "ADMIN_ID=" + admin.ClientID, "ADMIN_SECRET_FILE=" + keep(t, dir, "admin", admin.ClientSecret), "AGENT=" + wild.ID}, "silence")
	t.Log(lastLines(out, 1))
	if r, err := s.tokenReply(credential{ClientID: wild.ID, ClientSecret: wild.Credential.ClientSecret}, "invoices:read"); err != nil || r.status == http.StatusOK {
		t.Errorf("the silenced agent: %d %s %v", r.status, r.body, err)
	}
}
