package e2e_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/pgtest"
	"git.sentryagent.ai/sentryagent-idp/internal/redistest"
)

// nodeCount is how many nodes a cluster has.
const nodeCount = 3

// cluster is several nodes on one PostgreSQL.
type cluster struct {
	nodes []*server
	admin credential
	env   []string
}

// postgresURL names a database on several hosts; the one that takes writes is used.
func postgresURL(database string, servers ...*pgtest.Server) string {
	hosts := make([]string, len(servers))
	for i, s := range servers {
		hosts[i] = "127.0.0.1:" + strconv.Itoa(s.Port)
	}
	return "postgres://owner@" + strings.Join(hosts, ",") + "/" + database + "?sslmode=disable"
}

// startPostgres starts a PostgreSQL that goes with the test.
func startPostgres(t *testing.T, settings ...string) *pgtest.Server {
	t.Helper()
	pg, err := pgtest.Start(settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pg.Stop)
	return pg
}

// startCluster is startNodes for as many nodes as a cluster has.
func startCluster(t *testing.T, databaseURL string, env ...string) *cluster {
	t.Helper()
	return startNodes(t, nodeCount, databaseURL, env...)
}

// startNodes migrates the database, makes an admin agent and starts the nodes.
func startNodes(t *testing.T, count int, databaseURL string, env ...string) *cluster {
	t.Helper()
	env = append([]string{
		"DATABASE_URL=" + databaseURL, "JWT_SECRET=" + strings.Repeat("cluster-", 8), "JWT_ISSUER=http://idp.example.test", "RATE_LIMIT=off", "SECRET_HASHER=hmac",
	}, env...)
	mustRun(t, t.TempDir(), env, "migrate")
	c := &cluster{env: env, admin: readCredential(t, mustRun(t, t.TempDir(), env, "admin", "bootstrap").stdout)}
	for range count {
		c.nodes = append(c.nodes, start(t, t.TempDir(), env...))
	}
	return c
}

// TestRevocationIsLinearizableOverThreeNodes asks any node for tokens while others
// suspend and revoke: no node may be behind (R6).
func TestRevocationIsLinearizableOverThreeNodes(t *testing.T) {
	pg := startPostgres(t)
	c := startCluster(t, postgresURL("postgres", pg))
	revocationRun(t, newFleet(t, "nodes", c.nodes, c.admin))
}

// outage is what clients see of a failover.
type outage struct {
	mu          sync.Mutex
	issued      []string // jti of every token that was answered
	made        []registered
	firstFailed time.Time
	lastFailed  time.Time
	recovered   time.Time
	answeredAt  time.Time     // the last time
	silence     time.Duration // the longest time in which nobody was answered
	failures    map[int]int
}

func (o *outage) answered(at time.Time) {
	if !o.answeredAt.IsZero() {
		o.silence = max(o.silence, at.Sub(o.answeredAt))
	}
	o.answeredAt = at
	if !o.firstFailed.IsZero() && o.recovered.Before(o.lastFailed) {
		o.recovered = at
	}
}

func (o *outage) failed(status int, at time.Time) {
	if o.firstFailed.IsZero() {
		o.firstFailed = at
	}
	o.lastFailed = at
	o.failures[status]++
}

// TestFailover kills the primary under load from 64 clients and promotes its
// synchronous standby: the nodes follow by themselves, and nothing they had
// answered for is lost (R6, R39).
func TestFailover(t *testing.T) {
	primary := startPostgres(t, "fsync=on", "synchronous_commit=remote_apply")
	standby, err := primary.Standby("fsync=on", "synchronous_commit=on")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.Stop)
	c := startCluster(t, postgresURL("postgres", primary, standby), "REDIS_URL="+redistest.Start(t).URL())
	bearer := c.nodes[0].token(t, c.admin, management)
	client := c.nodes[0].register(t, bearer, "failover").Credential

	o := &outage{failures: map[int]int{}}
	var answers atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 64 {
		node := c.nodes[i%nodeCount]
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				o.ask(t, node, client, bearer, fmt.Sprintf("failover-%d-%d", i, n), n%20 == 0)
				answers.Add(1)
			}
		})
	}
	waitFor(t, "load", func() bool { return answers.Load() > 2000 })
	primary.Kill()
	killed := time.Now()
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	after := answers.Load()
	waitFor(t, "service on every node", func() bool { return answers.Load() > after+500 && o.wellFor(killed) })
	close(stop)
	clients.Wait()
	o.judge(t, c, bearer, killed)
}

// ask sends one request and notes how it was answered.
func (o *outage) ask(t *testing.T, node *server, client credential, bearer, name string, register bool) {
	var r reply
	var err error
	want := http.StatusOK
	if register {
		want = http.StatusCreated
		r, err = node.call(http.MethodPost, "/agents", bearer, draft(name))
	} else {
		r, err = node.tokenReply(client, "invoices:read")
	}
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil || r.status != want {
		o.failed(r.status, now)
		// Whatever is wrong with the database says nothing about the agent.
		if err != nil || r.status != http.StatusServiceUnavailable {
			t.Errorf("during the failover: %d %s %v", r.status, r.body, err)
		}
		return
	}
	o.answered(now)
	if register {
		o.made = append(o.made, decode[registered](t, r))
		return
	}
	payload, err := claims(decode[tokenAnswer](t, r).AccessToken)
	if jti, ok := payload["jti"].(string); ok && err == nil {
		o.issued = append(o.issued, jti)
	}
}

// wellFor reports whether requests are answered again after the kill.
func (o *outage) wellFor(killed time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.recovered.After(killed) && o.recovered.After(o.lastFailed)
}

// judge looks for everything that was answered, and at how long it took.
func (o *outage) judge(t *testing.T, c *cluster, bearer string, killed time.Time) {
	t.Helper()
	node := c.nodes[1]
	issued := map[string]bool{}
	for _, e := range all[event](t, node, bearer, "/audit/events", url.Values{"action": {"token.issued"}}) {
		issued[e.Target.ID] = true
	}
	lost := 0
	for _, jti := range o.issued {
		if !issued[jti] {
			lost++
		}
	}
	gone := 0
	for _, a := range o.made {
		if r, err := node.call(http.MethodGet, "/agents/"+a.ID, bearer, nil); err != nil || r.status != http.StatusOK {
			gone++
		}
	}
	t.Logf("%d tokens answered, %d without an event; %d agents answered, %d lost; nobody was answered for %s; refused meanwhile: %v; the last of it %s after the kill",
		len(o.issued), lost, len(o.made), gone, o.silence.Round(time.Millisecond), o.failures, o.recovered.Sub(killed).Round(time.Millisecond))
	if lost > 0 || gone > 0 {
		t.Errorf("lost: %d events, %d agents", lost, gone)
	}
	record := &trail{ids: map[int64]string{}, issued: map[string]bool{}, made: map[string]bool{}}
	record.read(t, node, bearer, time.Time{})
}
