package e2e_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// copies says in each engine's words how an agent is multiplied by SQL: registering so
// many by the API would take longer than what is tested.
func copies(driver string) (id, numbers string) {
	if driver == "sqlite" {
		return `lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))`,
			"(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < %d) SELECT n FROM s) AS s"
	}
	return "gen_random_uuid()", "generate_series(1, %d) AS s(n)"
}

// multiply makes n copies of an agent, each with a credential of its own.
func (o owner) multiply(driver, agentID string, n int) {
	o.t.Helper()
	id, numbers := copies(driver)
	for _, statement := range []string{
		fmt.Sprintf(`INSERT INTO agents (id, organization_id, email, agent_type, version, capabilities, owner, deployment_env, status, metadata, created_at, updated_at)
			SELECT %s, organization_id, 'copy-' || s.n || '-' || a.email, agent_type, version, capabilities, owner, deployment_env, status, metadata, created_at, updated_at
			FROM agents a, `+numbers+" WHERE a.id = '%s'", id, n, agentID),
		`INSERT INTO agent_capabilities (agent_id, organization_id, capability, created_at, status)
			SELECT id, organization_id, capabilities, created_at, status FROM agents WHERE email LIKE 'copy-%'`,
		fmt.Sprintf(`INSERT INTO credentials (id, agent_id, organization_id, key_id, fingerprint, fingerprint_key, created_at)
			SELECT %s, a.id, a.organization_id, 'copy-' || a.id, c.fingerprint, c.fingerprint_key, c.created_at FROM agents a, credentials c
			WHERE a.email LIKE 'copy-%%' AND c.agent_id = '%s' AND c.created_at = (SELECT min(created_at) FROM credentials WHERE agent_id = '%s')`, id, agentID, agentID),
	} {
		o.exec(statement)
	}
}

// database opens the one of a server.
func (s *server) database(t *testing.T) owner {
	t.Helper()
	return embedded(t, filepath.Join(s.dataDir, "agentidp.db"))
}

// massJob is a revocation of many agents as the API tells of it.
type massJob struct {
	ID          string    `json:"id"`
	Status      string    `json:"status"`
	Changed     int       `json:"changed"`
	Written     int       `json:"written"`
	CreatedAt   time.Time `json:"createdAt"`
	CompletedAt time.Time `json:"completedAt"`
}

func (a api) job(t *testing.T, bearer, id string) massJob {
	t.Helper()
	return decode[massJob](t, a.mustCall(t, http.MethodGet, "/revocations/"+id, bearer, nil, http.StatusOK))
}

// massChange acts on all agents at once, as one recorded operation of each.
func (f *fleet) massChange(who int, k kind, agents []*fleetAgent, path string, body any) (j massJob, ok bool) {
	called := time.Since(f.h.began).Nanoseconds()
	r, err := f.node(who).call(http.MethodPost, path, f.admin, body)
	returned := time.Since(f.h.began).Nanoseconds()
	if err != nil || r.status != http.StatusAccepted {
		f.t.Errorf("%s of all: %d %s %v", k, r.status, r.body, err)
		return j, false
	}
	for _, a := range agents {
		f.h.note(who, input{k, a.id, ""}, called, returned)
	}
	return decode[massJob](f.t, r), true
}

// massController suspends everybody, lets one go while the job is still writing, and
// undoes the rest, as often as the requesters let it. It gives how many tokens it saw
// dead at once, and how often it changed an agent before its job had written it.
func (f *fleet) massController(who int, rnd *rand.Rand) (dead, amidst int) {
	for range f.ticks {
		var killed []string
		for _, a := range f.agents {
			killed = append(killed, f.held(who, a, "")...)
		}
		j, ok := f.massChange(who+rnd.IntN(2), opSuspend, f.agents, "/revocations", map[string]any{
			"selector": map[string]any{"owner": "finance", "agentType": "reader"}, "action": "suspend", "reason": "a drill",
		})
		if !ok {
			return dead, amidst
		}
		spared := rnd.IntN(len(f.agents))
		f.change(who, input{opReactivate, f.agents[spared].id, ""}, http.MethodPost, "/agents/"+f.agents[spared].id+"/reactivate", http.StatusOK)
		if running := f.s.job(f.t, f.admin, j.ID); running.Status == "running" {
			amidst++
		}
		dead += f.dead("suspension of all", killed)
		waitFor(f.t, "the job", func() bool { j = f.s.job(f.t, f.admin, j.ID); return j.Status == "completed" })
		if j.Written != j.Changed {
			f.t.Errorf("a job is completed with %d of %d agents", j.Written, j.Changed)
		}
		others := slices.Delete(slices.Clone(f.agents), spared, spared+1)
		if _, ok := f.massChange(who+rnd.IntN(2), opReactivate, others, "/revocations/"+j.ID+"/undo", nil); !ok {
			return dead, amidst
		}
	}
	return dead, amidst
}

// massRun puts a fleet under load while all of it, and many more, are suspended and
// brought back, and checks the history.
func massRun(t *testing.T, f *fleet) {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) // any bits will do
	t.Logf("seed %d", seed)
	var requesters, controllers sync.WaitGroup
	var dead, amidst int
	controllers.Go(func() { dead, amidst = f.massController(requesterCount, rand.New(rand.NewPCG(seed, 1000))) })
	for i := range requesterCount {
		requesters.Go(func() { f.requester(i, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	requesters.Wait()
	close(f.ticks)
	controllers.Wait()
	t.Logf("%d times an agent was changed while a job was writing", amidst)
	if amidst == 0 {
		t.Error("no job was still writing when an agent was changed: nothing was tested")
	}
	f.check([]int{dead}, "token", "refusal", "suspend", "reactivate")
}

// amongMany is how many others a selector matches beside a fleet, so that a job is still
// writing when the next thing happens.
const amongMany = 1_500

func TestRevocationOfManyIsLinearizable(t *testing.T) {
	s := start(t, t.TempDir(), "RATE_LIMIT=off", "SECRET_HASHER=hmac")
	f := newFleet(t, "many", []*server{s}, s.first(t))
	s.database(t).multiply("sqlite", f.agents[0].id, amongMany)
	massRun(t, f)
}

func TestRevocationOfManyIsLinearizableOverThreeNodes(t *testing.T) {
	pg := startPostgres(t)
	c := startCluster(t, postgresURL("postgres", pg))
	f := newFleet(t, "many-nodes", c.nodes, c.admin)
	openDatabase(t, "pgx", pg.URL("postgres")).multiply("pgx", f.agents[0].id, amongMany)
	massRun(t, f)
}

// TestAJobGoesOnAfterACrash kills the server while a job writes. When it is back, nobody
// who was matched gets a token, written or not, and the job ends by itself.
func TestAJobGoesOnAfterACrash(t *testing.T) {
	dir, env := t.TempDir(), []string{"RATE_LIMIT=off", "SECRET_HASHER=hmac"}
	s := start(t, dir, env...)
	admin := s.first(t)
	bearer := s.token(t, admin, management)
	var fleet []registered
	for i := range 20 {
		fleet = append(fleet, s.register(t, bearer, fmt.Sprintf("crashed-%d", i)))
	}
	token := s.token(t, fleet[0].Credential, "invoices:read")
	db := s.database(t)
	db.multiply("sqlite", fleet[0].ID, 40_000)
	j := decode[massJob](t, s.mustCall(t, http.MethodPost, "/revocations", bearer,
		map[string]any{"selector": map[string]any{"owner": "finance"}, "action": "revoke"}, http.StatusAccepted))
	for j.Written == 0 {
		j = s.job(t, bearer, j.ID)
	}
	if j.Status != "running" {
		t.Fatalf("the job was completed before the kill: %+v", j)
	}
	s.kill(t)
	s = start(t, dir, env...)
	bearer = s.token(t, admin, management)
	if after := s.job(t, bearer, j.ID); after.Status != "running" {
		t.Errorf("after the crash the job is %+v", after)
	}
	for _, a := range fleet {
		if r, err := s.tokenReply(a.Credential, "invoices:read"); err != nil || r.status != http.StatusUnauthorized {
			t.Errorf("after the crash a revoked agent is answered %d %v", r.status, err)
		}
	}
	if active, err := s.active(bearer, token); err != nil || active {
		t.Errorf("after the crash a dead token is active: %v", err)
	}
	waitFor(t, "the job", func() bool { return s.job(t, bearer, j.ID).Status == "completed" })
	s.stop(t)
	revoked := db.number("SELECT count(*) FROM agents WHERE status = 'revoked' AND revision = 2")
	events := db.number("SELECT count(*) FROM audit_events WHERE action = 'agent.revoked'")
	distinct := db.number("SELECT count(DISTINCT agent_id) FROM audit_events WHERE action = 'agent.revoked'")
	credentials := db.number("SELECT count(*) FROM credentials c JOIN agents a ON a.id = c.agent_id WHERE a.owner = 'finance' AND c.revoked_at IS NOT NULL")
	if want := int64(j.Changed); want != 40_020 || revoked != want || events != want || distinct != want || credentials != want {
		t.Errorf("of %d agents %d are revoked, with %d events of %d agents and %d credentials", want, revoked, events, distinct, credentials)
	}
}

// TestAFleetIsSuspendedUnderLoad measures what E2E_FLEET=100000 agents take; without it, and
// in the suite, a tenth of that.
func TestAFleetIsSuspendedUnderLoad(t *testing.T) {
	size, err := strconv.Atoi(cmp.Or(os.Getenv("E2E_FLEET"), "10000"))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("embedded", func(t *testing.T) {
		s := start(t, t.TempDir(), "RATE_LIMIT=off", "SECRET_HASHER=hmac")
		suspendAll(t, s, s.first(t), s.database(t), "sqlite", size)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		pg := startPostgres(t, "fsync=on", "synchronous_commit=on")
		c := startNodes(t, 1, postgresURL("postgres", pg))
		suspendAll(t, c.nodes[0], c.admin, openDatabase(t, "pgx", pg.URL("postgres")), "pgx", size)
	})
}

func suspendAll(t *testing.T, s *server, admin credential, db owner, driver string, size int) {
	t.Helper()
	bearer := s.token(t, admin, management)
	bystander, member := draft("bystander"), s.register(t, bearer, "member")
	bystander["owner"] = "others"
	other := decode[registered](t, s.mustCall(t, http.MethodPost, "/agents", bearer, bystander, http.StatusCreated))
	db.multiply(driver, member.ID, size-1)
	db.exec("ANALYZE")
	var issued, slowest atomic.Int64
	stop, answered := make(chan struct{}), make(chan struct{})
	var load sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); load.Wait() })
	defer end()
	for i := range 16 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				of := other
				if i%4 == 0 {
					of = member
				}
				isAnswered := false
				select {
				case <-answered:
					isAnswered = true
				default:
				}
				began := time.Now()
				r, err := s.tokenReply(of.Credential, "invoices:read")
				if took := time.Since(began).Nanoseconds(); took > slowest.Load() {
					slowest.Store(took)
				}
				switch {
				case err != nil || r.status != http.StatusOK && (r.status != http.StatusUnauthorized || of.ID == other.ID):
					t.Errorf("under load: %d %s %v", r.status, r.body, err)
				case r.status == http.StatusOK && isAnswered && of.ID == member.ID:
					t.Error("a token after the answer")
				}
				issued.Add(1)
			}
		})
	}
	before := time.Now()
	waitFor(t, "a load", func() bool { return issued.Load() > 2000 })
	rate := float64(issued.Load()) / time.Since(before).Seconds()
	counted, slowest0 := issued.Load(), slowest.Swap(0)
	dry := time.Now()
	s.mustCall(t, http.MethodPost, "/revocations", bearer, map[string]any{"selector": map[string]any{"owner": "finance"}, "action": "suspend", "dryRun": true}, http.StatusOK)
	dryTook := time.Since(dry)
	began := time.Now()
	j := decode[massJob](t, s.mustCall(t, http.MethodPost, "/revocations", bearer,
		map[string]any{"selector": map[string]any{"owner": "finance"}, "action": "suspend", "reason": "all"}, http.StatusAccepted))
	took := time.Since(began)
	close(answered)
	waitFor(t, "the job", func() bool { j = s.job(t, bearer, j.ID); return j.Status == "completed" })
	whole := time.Since(began)
	during := float64(issued.Load()-counted) / (whole + dryTook).Seconds()
	end()
	if j.Changed != size || j.Written != size {
		t.Errorf("of %d agents %d were suspended", size, j.Written)
	}
	t.Logf("%d agents: counted in %s, in effect after %s, all written after %s; answers to the load %.0f/s before, the slowest %s, and %.0f/s meanwhile, the slowest %s",
		size, dryTook.Round(time.Millisecond), took.Round(time.Millisecond), whole.Round(time.Millisecond), rate,
		time.Duration(slowest0).Round(time.Millisecond), during, time.Duration(slowest.Load()).Round(time.Millisecond))
}
