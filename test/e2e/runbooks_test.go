package e2e_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/pgtest"
	"git.sentryagent.ai/sentryagent-idp/internal/porttest"
)

// runbookEnv is what every server of these tests is started with.
var runbookEnv = []string{"RATE_LIMIT=off", "SECRET_HASHER=hmac", "JWT_ISSUER=http://idp.example.test"}

// tryRunbook runs a script of docs/runbooks to its end.
func tryRunbook(t *testing.T, name string, env []string, args ...string) result {
	t.Helper()
	script, err := filepath.Abs(filepath.Join("..", "..", "docs", "runbooks", name+".sh"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := command(ctx, t, filepath.Join(t.TempDir(), "unset"), append([]string{"AGENTIDP=" + binary}, env...))
	cmd.Path, cmd.Args = "/bin/bash", append([]string{"bash", script}, args...)
	cmd.WaitDelay = time.Second // what it started may keep its output open
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); ctx.Err() != nil || (err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay)) {
		t.Fatalf("%s.sh %s: %v\n%s%s", name, strings.Join(args, " "), err, &stdout, &stderr)
	}
	t.Logf("%s.sh %s ended with %d after %s", name, strings.Join(args, " "), cmd.ProcessState.ExitCode(), time.Since(began).Round(time.Millisecond))
	return result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// runbook is tryRunbook for what must succeed.
func runbook(t *testing.T, name string, env []string, args ...string) string {
	t.Helper()
	r := tryRunbook(t, name, env, args...)
	if r.code != 0 {
		t.Fatalf("%s.sh %s: exit code %d\n%s%s", name, strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// refuses is tryRunbook for what must fail and say why.
func refuses(t *testing.T, name string, env []string, says string, args ...string) {
	t.Helper()
	r := tryRunbook(t, name, env, args...)
	if r.code == 0 {
		t.Errorf("%s.sh %s succeeded\n%s", name, strings.Join(args, " "), r.stdout)
	}
	contains(t, r.stderr, says)
}

// freePort gives a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := porttest.Free()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// at is a server that a script started.
func at(t *testing.T, port string) *server {
	t.Helper()
	s := &server{address: "127.0.0.1:" + port, api: newAPI("http://127.0.0.1:" + port)}
	t.Cleanup(s.http.CloseIdleConnections)
	return s
}

// endsLater stops, when the test ends, the processes whose ids are in files of a folder.
func endsLater(t *testing.T, dir string) {
	t.Helper()
	t.Cleanup(func() {
		files, err := filepath.Glob(filepath.Join(dir, "*.pid"))
		if err != nil {
			t.Error(err)
		}
		var ending []int
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Error(err)
				continue
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			if syscall.Kill(pid, syscall.SIGTERM) == nil {
				ending = append(ending, pid)
			}
		}
		for _, pid := range ending {
			waitFor(t, "the end of what a script started", func() bool { return ended(pid) })
		}
	})
}

// ended reports whether a process is gone, or waits only for somebody to ask how it
// ended.
func ended(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return syscall.Kill(pid, 0) != nil || (err == nil && strings.Contains(string(status), "\nState:\tZ"))
}

// killing is the command that stops a process and waits for its end.
func killing(pid int) string {
	return fmt.Sprintf("kill -TERM %d && while kill -0 %d 2>/dev/null; do sleep 0.05; done", pid, pid)
}

// traffic is clients that get tokens and register agents until they are told to stop.
type traffic struct {
	t        *testing.T
	done     chan struct{}
	workers  sync.WaitGroup
	answers  atomic.Int64
	failures atomic.Int64
	excused  atomic.Bool // failures are expected now
	promised promised
}

// startTraffic sends requests to the servers that pick gives.
func startTraffic(t *testing.T, name string, client credential, bearer string, pick func(worker int) api) *traffic {
	t.Helper()
	l := &traffic{t: t, done: make(chan struct{})}
	for i := range 8 {
		l.workers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.done:
					return
				default:
					l.ask(pick(i), client, bearer, fmt.Sprintf("%s-%d-%d", name, i, n), n%10 == 0)
					time.Sleep(20 * time.Millisecond) // the scripts shall have something of the machine, too
				}
			}
		})
	}
	t.Cleanup(l.stop)
	l.more(200)
	return l
}

func (l *traffic) ask(to api, client credential, bearer, name string, register bool) {
	var r reply
	var err error
	want := http.StatusOK
	if register {
		want = http.StatusCreated
		r, err = to.call(http.MethodPost, "/agents", bearer, draft(name))
	} else {
		r, err = to.tokenReply(client, "invoices:read")
	}
	if err != nil || r.status != want {
		l.failures.Add(1)
		if !l.excused.Load() {
			l.t.Errorf("a request failed: %d %s %v", r.status, r.body, err)
		}
		return
	}
	l.promised.mu.Lock()
	defer l.promised.mu.Unlock()
	if register {
		l.promised.agents = append(l.promised.agents, decode[registered](l.t, r))
	} else if payload, err := claims(decode[tokenAnswer](l.t, r).AccessToken); err == nil {
		l.promised.tokens = append(l.promised.tokens, fmt.Sprint(payload["jti"]))
	}
	l.answers.Add(1)
}

// more waits for so many answers more.
func (l *traffic) more(n int64) {
	l.t.Helper()
	from := l.answers.Load()
	waitFor(l.t, "answers", func() bool { return l.answers.Load() >= from+n })
}

func (l *traffic) stop() {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	l.workers.Wait()
}

// sofar is what was answered until now.
func (l *traffic) sofar() *promised {
	l.promised.mu.Lock()
	defer l.promised.mu.Unlock()
	p := &promised{}
	p.add(&l.promised)
	return p
}

// proves looks, through the product, for everything that was promised: the record is
// whole, the agents are active and their secrets open, and a token from before holds,
// so that its signing key was opened.
func proves(t *testing.T, s *server, admin credential, p *promised, tokenBefore string) {
	t.Helper()
	bearer := s.token(t, admin, management)
	record := &trail{ids: map[int64]string{}, issued: map[string]bool{}, made: map[string]bool{}}
	record.read(t, s, bearer, time.Time{})
	status := map[string]string{}
	for _, a := range all[registered](t, s, bearer, "/agents", map[string][]string{}) {
		status[a.ID] = a.Status
	}
	lost := 0
	for _, jti := range p.tokens {
		if !record.issued[jti] {
			lost++
		}
	}
	for i, a := range p.agents {
		if !record.made[a.ID] || status[a.ID] != "active" {
			lost++
		}
		if i < 20 {
			s.token(t, a.Credential, "invoices:read")
		}
	}
	if lost > 0 {
		t.Errorf("of %d tokens and %d agents %d are lost", len(p.tokens), len(p.agents), lost)
	}
	holds(t, s, s.token(t, admin, management))
	if active, err := s.active(bearer, tokenBefore); err != nil || !active {
		t.Errorf("a token from before: active=%t %v", active, err)
	}
	t.Logf("%d tokens and %d agents are there, and %d events without a gap", len(p.tokens), len(p.agents), len(record.ids))
}

// TestRunbookEmbeddedBackup copies the embedded database under load, does damage, and
// restores it (R39).
func TestRunbookEmbeddedBackup(t *testing.T) {
	dir, backups, run, port := t.TempDir(), t.TempDir(), t.TempDir(), freePort(t)
	s := start(t, dir, append(runbookEnv, "PORT="+port)...)
	admin := s.first(t)
	bearer := s.token(t, admin, management)
	client := s.register(t, bearer, "runbook").Credential
	load := startTraffic(t, "embedded", client, bearer, func(int) api { return s.api })

	env := append([]string{"DATA_DIR=" + dir, "BACKUP_DIR=" + backups}, runbookEnv...)
	before := load.sofar()
	runbook(t, "embedded-backup", env, "backup")
	load.more(200)
	load.stop()
	copies, err := filepath.Glob(filepath.Join(backups, "*"))
	if err != nil || len(copies) != 1 {
		t.Fatalf("%d copies, want 1 (%v)", len(copies), err)
	}
	for _, name := range []string{"agentidp.db", "jwt-secret", "SHA256SUMS"} {
		if info, err := os.Stat(filepath.Join(copies[0], name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s of the copy: %v %v, want mode 0600", name, info, err)
		}
	}
	fails(t, dir, runbookEnv, []string{"file already exists"}, "backup", "--to", filepath.Join(copies[0], "agentidp.db"))
	fails(t, dir, []string{"DATABASE_URL=postgres://owner@127.0.0.1:1/none"}, []string{"pg_dump"}, "backup", "--to", filepath.Join(run, "none"))
	fails(t, filepath.Join(run, "nowhere"), nil, []string{"there is no database to copy"}, "backup", "--to", filepath.Join(run, "none"))

	// The damage: one agent too many, and all others gone for good.
	late := s.register(t, bearer, "late")
	for _, a := range before.agents {
		s.mustCall(t, http.MethodDelete, "/agents/"+a.ID, bearer, nil, http.StatusNoContent)
	}

	env = append(env, "STOP="+killing(s.cmd.Process.Pid), "HEALTH_URL=http://127.0.0.1:"+port,
		"START=cd "+run+"; PORT="+port+" setsid "+binary+" serve >serve.log 2>&1 </dev/null & echo $! >"+run+"/serve.pid")
	endsLater(t, run)
	torn := tear(t, copies[0])
	refuses(t, "embedded-backup", append(env, "BACKUP="+torn), "not as it was made", "restore")
	if s.over() {
		t.Fatal("a restore that refuses has stopped the server")
	}
	began := time.Now()
	out := runbook(t, "embedded-backup", append(env, "BACKUP="+copies[0]), "restore")
	if took := time.Since(began); took > 5*time.Minute {
		t.Errorf("the restore took %s, want less than 5m (R39)", took)
	}
	t.Log(lastLines(out, 2))
	restored := at(t, port)
	proves(t, restored, admin, before, bearer)
	restored.mustCall(t, http.MethodGet, "/agents/"+late.ID, restored.token(t, admin, management), nil, http.StatusNotFound)
}

// tear gives a copy of a backup in which one byte is another.
func tear(t *testing.T, backup string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "agentidp.db")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// postgresEnv is what a script needs to work on a PostgreSQL of the tests.
func postgresEnv(pg *pgtest.Server) []string {
	env := []string{
		"PGHOST=127.0.0.1", "PGPORT=" + strconv.Itoa(pg.Port), "PGUSER=owner", "PGDATABASE=agentidp", "PGBIN=" + filepath.Dir(pg.Command("psql").Path), "LC_ALL=C",
		"PG_OPTIONS=-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 -c synchronous_commit=remote_apply",
	}
	if owner := pg.Command("psql").SysProcAttr.Credential; owner != nil {
		env = append(env, fmt.Sprintf("PG_AS=setpriv --reuid=%d --regid=%d --clear-groups", owner.Uid, owner.Gid))
	}
	return env
}

// agentidpDatabase starts a PostgreSQL with an empty database.
func agentidpDatabase(t *testing.T, settings ...string) *pgtest.Server {
	t.Helper()
	pg := startPostgres(t, settings...)
	pg.Exec(t, "postgres", "CREATE DATABASE agentidp")
	return pg
}

// folderOf makes a folder that PostgreSQL may write to, and goes with it.
func folderOf(t *testing.T, pg *pgtest.Server, name string) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(pg.Dir), name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if owner := pg.Command("psql").SysProcAttr.Credential; owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// endsPostgresLater stops, when the test ends, the server that a script started.
func endsPostgresLater(t *testing.T, pg *pgtest.Server, data string) {
	t.Helper()
	t.Cleanup(func() {
		if out, err := pg.Command("pg_ctl", "stop", "-m", "immediate", "-D", data).CombinedOutput(); err != nil {
			t.Logf("stopping what the script started: %v %s", err, out)
		}
	})
}

// spread gives the nodes to the clients in turn.
func (c *cluster) spread(worker int) api { return c.nodes[worker%len(c.nodes)].api }

// TestRunbookPostgresDump dumps the database under load and reads it into another
// server (R39).
func TestRunbookPostgresDump(t *testing.T) {
	pg := agentidpDatabase(t)
	pg.Exec(t, "postgres", "CREATE ROLE worker LOGIN")
	c := startCluster(t, pg.URL("agentidp"))
	mustRun(t, t.TempDir(), append(c.env, "DATABASE_ROLE=worker"), "migrate")
	bearer := c.nodes[0].token(t, c.admin, management)
	client := c.nodes[0].register(t, bearer, "runbook").Credential
	load := startTraffic(t, "dump", client, bearer, c.spread)

	before := load.sofar()
	dump := "DUMP=" + filepath.Join(t.TempDir(), "dump")
	runbook(t, "postgres-backup", append(postgresEnv(pg), dump), "dump")
	load.more(200)
	load.stop()
	refuses(t, "postgres-backup", append(postgresEnv(pg), dump), "there already", "dump")
	refuses(t, "postgres-backup", append(postgresEnv(pg), dump), "is not empty", "undump")

	other := agentidpDatabase(t)
	out := runbook(t, "postgres-backup", append(postgresEnv(other), dump), "undump")
	t.Log(lastLines(out, 2))
	restored := start(t, t.TempDir(), append(c.env, "DATABASE_URL="+other.URLAs("worker", "agentidp"))...)
	proves(t, restored, c.admin, before, bearer)
}

// TestRunbookPostgresPointInTime archives every agent and restores the moment before
// (R39).
func TestRunbookPostgresPointInTime(t *testing.T) {
	pg := agentidpDatabase(t)
	archive := folderOf(t, pg, "archive")
	base := filepath.Join(t.TempDir(), "base")
	env := append(postgresEnv(pg), "ARCHIVE="+archive, "BASE="+base)
	refuses(t, "postgres-backup", env, "run archive first", "base")
	contains(t, runbook(t, "postgres-backup", env, "archive"), "must be restarted")
	pg.Kill()
	pg.Restart(t)
	contains(t, runbook(t, "postgres-backup", env, "archive"), "has arrived")

	c := startCluster(t, pg.URL("agentidp"))
	bearer := c.nodes[0].token(t, c.admin, management)
	client := c.nodes[0].register(t, bearer, "runbook").Credential
	load := startTraffic(t, "moment", client, bearer, c.spread)
	runbook(t, "postgres-backup", env, "base")
	load.more(200) // is in the log alone
	load.stop()
	before := load.sofar()
	var moment string
	query(t, pg, "SELECT clock_timestamp()::text", &moment)

	for _, a := range before.agents {
		c.nodes[1].mustCall(t, http.MethodDelete, "/agents/"+a.ID, bearer, nil, http.StatusNoContent)
	}
	late := c.nodes[2].register(t, bearer, "late")

	data, port := filepath.Join(filepath.Dir(pg.Dir), "restored"), freePort(t)
	endsPostgresLater(t, pg, data)
	env = append(env, "TARGET_TIME="+moment, "NEW_DATA="+data, "NEW_PORT="+port)
	out := runbook(t, "postgres-backup", env, "restore")
	t.Log(lastLines(out, 3))
	refuses(t, "postgres-backup", env, "there already", "restore")
	restored := start(t, t.TempDir(), append(c.env, "DATABASE_URL=postgres://owner@127.0.0.1:"+port+"/agentidp?sslmode=disable")...)
	proves(t, restored, c.admin, before, bearer)
	restored.mustCall(t, http.MethodGet, "/agents/"+late.ID, restored.token(t, c.admin, management), nil, http.StatusNotFound)
	// The old server was left as it was.
	c.nodes[0].mustCall(t, http.MethodGet, "/agents/"+late.ID, bearer, nil, http.StatusOK)
}

// query asks a PostgreSQL of the tests for one value.
func query(t *testing.T, pg *pgtest.Server, question string, answer any) {
	t.Helper()
	db, err := sql.Open("pgx", pg.URL("agentidp"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.QueryRowContext(t.Context(), question).Scan(answer); err != nil {
		t.Fatalf("%s: %v", question, err)
	}
}

// TestRunbookPostgresFailover kills the primary under load and promotes its standby,
// makes a standby of the old primary, and does it all once more in the other direction
// (R39).
func TestRunbookPostgresFailover(t *testing.T) {
	primary := agentidpDatabase(t, "fsync=on", "synchronous_commit=remote_apply")
	standby, err := primary.Standby("fsync=on", "synchronous_commit=remote_apply")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.Stop)
	c := startCluster(t, postgresURL("agentidp", primary, standby))
	bearer := c.nodes[0].token(t, c.admin, management)
	client := c.nodes[0].register(t, bearer, "runbook").Credential
	load := startTraffic(t, "failover", client, bearer, c.spread)
	var nodes []string
	for _, n := range c.nodes {
		nodes = append(nodes, n.base)
	}
	for i, roles := range [][2]*pgtest.Server{{primary, standby}, {standby, primary}} {
		old, next := roles[0], roles[1]
		env := append(postgresEnv(old), fmt.Sprintf("PRIMARY=127.0.0.1:%d", old.Port), fmt.Sprintf("STANDBY=127.0.0.1:%d", next.Port),
			"NODES="+strings.Join(nodes, " "), "OLD_DATA="+old.Dir, "HOW="+[]string{"rewind", "copy"}[i])
		refuses(t, "postgres-failover", env, "it answers", "promote")
		refuses(t, "postgres-failover", env, "answers: stop the old primary first", "rejoin")
		load.excused.Store(true)
		if i == 0 {
			old.Kill()
		} else if out, err := old.Command("pg_ctl", "stop", "-m", "immediate", "-D", old.Dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		killed := time.Now()
		refuses(t, "postgres-failover", env, "promote comes first", "rejoin")
		t.Log(lastLines(runbook(t, "postgres-failover", env, "promote"), 1))
		load.more(200)
		t.Logf("%d requests failed in %s after the death", load.failures.Swap(0), time.Since(killed).Round(time.Millisecond))
		load.excused.Store(false)
		endsPostgresLater(t, old, old.Dir)
		t.Log(lastLines(runbook(t, "postgres-failover", env, "rejoin"), 2))
		load.more(200)
	}
	load.stop()
	proves(t, c.nodes[2], c.admin, load.sofar(), bearer)
}

// balancer sends requests to the nodes that say that they are ready.
type balancer struct {
	ready   sync.Map // by address
	next    atomic.Int64
	targets []string
}

// startBalancer asks every node for its readiness, thirty times a second.
func startBalancer(t *testing.T, targets ...string) *httptest.Server {
	t.Helper()
	b := &balancer{targets: targets}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var asking sync.WaitGroup
	for _, target := range targets {
		asking.Go(func() {
			node := newAPI("http://" + target)
			defer node.http.CloseIdleConnections()
			for ctx.Err() == nil {
				r, err := node.call(http.MethodGet, "/health/ready", "", nil)
				b.ready.Store(target, err == nil && r.status == http.StatusOK)
				time.Sleep(30 * time.Millisecond)
			}
		})
	}
	s := httptest.NewServer(&httputil.ReverseProxy{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", b.wait()
	}})
	t.Cleanup(func() { cancel(); asking.Wait(); s.Close() })
	waitFor(t, "a ready node", func() bool { return b.pick() != "" })
	return s
}

// wait is pick, but queues a request for a moment where no node is ready.
func (b *balancer) wait() string {
	for range 100 {
		if target := b.pick(); target != "" {
			return target
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ""
}

func (b *balancer) pick() string {
	for range b.targets {
		target := b.targets[int(b.next.Add(1))%len(b.targets)]
		if ready, ok := b.ready.Load(target); ok && ready == true {
			return target
		}
	}
	return ""
}

// ports are where the nodes of a cluster listen.
func (c *cluster) ports() []string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, n.address[strings.LastIndexByte(n.address, ':')+1:])
	}
	return all
}

// handOver lets scripts stop the nodes by their ids, and stops what they start.
func (c *cluster) handOver(t *testing.T, dir string) {
	t.Helper()
	for i, port := range c.ports() {
		if err := os.WriteFile(filepath.Join(dir, port+".pid"), []byte(strconv.Itoa(c.nodes[i].cmd.Process.Pid)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	endsLater(t, dir)
}

// freePorts gives as many ports as the cluster has nodes.
func (c *cluster) freePorts(t *testing.T) []string {
	t.Helper()
	var all []string
	for range c.nodes {
		all = append(all, freePort(t))
	}
	return all
}

func addresses(ports []string) []string {
	var all []string
	for _, p := range ports {
		all = append(all, "127.0.0.1:"+p)
	}
	return all
}

// expansion is what a further version might add to the schema, and its number.
const expansion = `
ALTER TABLE agents ADD COLUMN IF NOT EXISTS risk text NOT NULL DEFAULT 'none';
CREATE INDEX CONCURRENTLY IF NOT EXISTS agents_by_risk ON agents (organization_id, risk, created_at, id);
INSERT INTO goose_db_version (version_id, is_applied) SELECT 9999, true WHERE NOT EXISTS (SELECT FROM goose_db_version WHERE version_id = 9999);
`

// TestRunbookUpgradeAndRollback expands the schema, rolls the nodes to a new program
// and back, and nobody is turned away (R39). The programs are the same; the schema is
// that of a further version.
func TestRunbookUpgradeAndRollback(t *testing.T) {
	pg := agentidpDatabase(t)
	c := startCluster(t, pg.URL("agentidp"), "SHUTDOWN_DELAY=1s")
	c.nodes[2].kill(t)
	c.nodes = c.nodes[:2] // each takes seconds
	dir, oldPorts, newPorts := t.TempDir(), c.ports(), c.freePorts(t)
	c.handOver(t, dir)
	expand := filepath.Join(dir, "expand.sql")
	if err := os.WriteFile(expand, []byte(expansion), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(append(postgresEnv(pg), c.env...), "OLD="+binary, "NEW="+binary, "RUN_DIR="+dir, "EXPAND="+expand, "LOCK_TIMEOUT=300ms", "SETTLE=0.2",
		"OLD_PORTS="+strings.Join(oldPorts, " "), "NEW_PORTS="+strings.Join(newPorts, " "))

	bearer := c.nodes[0].token(t, c.admin, management)
	client := c.nodes[0].register(t, bearer, "runbook").Credential
	front := newAPI(startBalancer(t, append(addresses(oldPorts), addresses(newPorts)...)...).URL)
	load := startTraffic(t, "upgrade", client, bearer, func(int) api { return front })

	free := holdsTable(t, pg, 700*time.Millisecond)
	out := runbook(t, "upgrade-and-rollback", env, "migrate")
	<-free
	contains(t, out, "giving way")
	t.Log(lastLines(out, 1))
	load.more(200)
	t.Log(lastLines(runbook(t, "upgrade-and-rollback", env, "upgrade"), 1))
	load.more(200)
	for _, old := range c.nodes {
		if !old.over() || old.cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("the old node on %s did not end well: %v", old.address, old.cmd.ProcessState)
		}
	}
	proves(t, at(t, newPorts[1]), c.admin, load.sofar(), bearer)
	t.Log(lastLines(runbook(t, "upgrade-and-rollback", env, "rollback"), 1))
	load.more(200)
	load.stop()
	proves(t, at(t, oldPorts[1]), c.admin, load.sofar(), bearer)
	t.Logf("%d requests answered meanwhile, %d failed", load.answers.Load(), load.failures.Load())
}

// holdsTable keeps the table of agents from being changed for a while, as a long
// report would; the channel closes when it is free.
func holdsTable(t *testing.T, pg *pgtest.Server, d time.Duration) <-chan struct{} {
	t.Helper()
	db, err := sql.Open("pgx", pg.URL("agentidp"))
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "LOCK TABLE agents IN ACCESS SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	free := make(chan struct{})
	time.AfterFunc(d, func() {
		defer close(free)
		if err := errors.Join(tx.Rollback(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return free
}

// TestRunbookKeyCompromise changes the root secret of two nodes under load, with
// nobody turned away and all tokens going on, and then the signing keys, after which
// no token from before is worth anything (R39).
func TestRunbookKeyCompromise(t *testing.T) {
	pg := agentidpDatabase(t)
	dir := t.TempDir()
	secret, previous := filepath.Join(dir, "secret"), filepath.Join(dir, "previous")
	leaked := hexSecret("0f1e2d3c")
	for _, file := range []string{secret, previous} {
		if err := os.WriteFile(file, []byte(leaked+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := startCluster(t, pg.URL("agentidp"), "SHUTDOWN_DELAY=1s", "SECRET_HASHER=bcrypt", "JWT_SECRET=", "JWT_SECRET_FILE="+secret, "JWT_SECRET_PREVIOUS_FILE="+previous)
	c.nodes[2].kill(t)
	c.nodes = c.nodes[:2] // each is restarted three times
	c.handOver(t, dir)
	bearer := c.nodes[0].token(t, c.admin, management)
	client := c.nodes[0].register(t, bearer, "runbook").Credential
	idle := c.nodes[0].register(t, bearer, "idle").Credential // stays unused during the change
	front := newAPI(startBalancer(t, addresses(c.ports())...).URL)
	load := startTraffic(t, "keys", client, bearer, func(int) api { return front })

	var nodes []string
	for _, n := range c.nodes {
		nodes = append(nodes, n.base)
	}
	oldToken := filepath.Join(dir, "token")
	if err := os.WriteFile(oldToken, []byte(bearer), 0o600); err != nil {
		t.Fatal(err)
	}
	// The node's port is the end of its URL; what ended may wait for its exit code to be asked for.
	restart := `port=${NODE##*:} && pid=$(cat ` + dir + `/$port.pid) && kill -TERM $pid
		while kill -0 $pid 2>/dev/null && ! grep -qs '^State:[[:space:]]*Z' /proc/$pid/status; do sleep 0.05; done
		JWT_SECRET_FILE=` + secret + ` JWT_SECRET_PREVIOUS_FILE=` + previous + ` PORT=$port nohup ` + binary + ` serve >>` + dir + `/$port.log 2>&1 </dev/null &
		echo $! >` + dir + `/$port.pid`
	env := append(append([]string{}, c.env...), "NODES="+strings.Join(nodes, " "), "SECRET_FILE="+secret, "PREVIOUS_FILE="+previous, "RESTART="+restart, "OLD_TOKEN="+oldToken, "SETTLE=0.2")

	t.Log(lastLines(runbook(t, "key-compromise", env, "root-secret"), 1))
	load.more(100)
	load.stop()
	proves(t, c.nodes[1], c.admin, load.sofar(), bearer)
	c.nodes[1].token(t, idle, "invoices:read")
	for _, file := range []string{secret, previous} {
		if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), leaked) {
			t.Errorf("%s still holds the old secret (%v)", file, err)
		}
	}
	fails(t, t.TempDir(), append(c.env, "JWT_SECRET_FILE=", "JWT_SECRET_PREVIOUS_FILE=", "JWT_SECRET="+leaked), []string{"was JWT_SECRET changed"}, "keys", "list")
	t.Logf("%d requests answered meanwhile, %d failed", load.answers.Load(), load.failures.Load())

	t.Log(lastLines(runbook(t, "key-compromise", env, "signing-keys"), 1))
	fresh := c.nodes[0].token(t, c.admin, management)
	for _, n := range c.nodes {
		n.mustCall(t, http.MethodGet, "/agents", bearer, nil, http.StatusUnauthorized)
		holds(t, n, fresh)
		if active, err := n.active(fresh, bearer); err != nil || active {
			t.Errorf("on %s a token of the leaked key: active=%t %v", n.address, active, err)
		}
	}
	proves(t, c.nodes[1], c.admin, load.sofar(), fresh)
}
