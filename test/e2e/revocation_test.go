package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// The load: every requester asks for a number of tokens while one controller for
// each agent suspends it, reactivates it and revokes its credentials.
const (
	requesterCount   = 32
	tokensEach       = 400
	agentCount       = 6
	firstCredentials = 3
)

// kind is what an operation does.
type kind string

const (
	opToken      kind = "token"
	opSuspend    kind = "suspend"
	opReactivate kind = "reactivate"
	opRevoke     kind = "revoke"
)

// input names an operation; suspending and reactivating have no credential.
type input struct {
	kind              kind
	agent, credential string
}

// standing is the state of one credential in the model.
type standing struct{ suspended, revoked bool }

// model says what a credential may be answered: a token only while its agent is
// active and it is not revoked, a refusal only otherwise.
func model() porcupine.Model {
	return porcupine.Model{
		Partition: partition,
		Init:      func() any { return standing{} },
		Step: func(state, in, out any) (bool, any) {
			s, _ := state.(standing)
			switch op, _ := in.(input); op.kind {
			case opSuspend:
				s.suspended = true
			case opReactivate:
				s.suspended = false
			case opRevoke:
				s.revoked = true
			default:
				return out == !(s.suspended || s.revoked), s
			}
			return true, s
		},
		DescribeOperation: func(in, out any) string {
			op, _ := in.(input)
			if op.kind == opToken {
				return fmt.Sprintf("token granted=%v", out)
			}
			return string(op.kind)
		},
	}
}

// partition makes one history of each credential, with what happened to its agent.
func partition(all []porcupine.Operation) [][]porcupine.Operation {
	histories, agentOf := map[string][]porcupine.Operation{}, map[string]string{}
	ofAgent := map[string][]porcupine.Operation{}
	for _, op := range all {
		in, _ := op.Input.(input)
		if in.credential == "" {
			ofAgent[in.agent] = append(ofAgent[in.agent], op)
			continue
		}
		histories[in.credential] = append(histories[in.credential], op)
		agentOf[in.credential] = in.agent
	}
	parts := make([][]porcupine.Operation, 0, len(histories))
	for id, history := range histories {
		parts = append(parts, append(history, ofAgent[agentOf[id]]...))
	}
	return parts
}

// history records operations with the times they began and ended.
type history struct {
	mu    sync.Mutex
	began time.Time
	ops   []porcupine.Operation
}

// do runs an operation and records it; keep says whether it had an answer that
// the model knows.
func (h *history) do(who int, in input, run func() (granted, keep bool)) {
	called := time.Since(h.began).Nanoseconds()
	granted, keep := run()
	returned := time.Since(h.began).Nanoseconds()
	if !keep {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: who, Input: in, Call: called, Output: granted, Return: returned})
}

// note records a change that began and ended at these times.
func (h *history) note(who int, in input, called, returned int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: who, Input: in, Call: called, Output: true, Return: returned})
}

// fleet is the agents under load.
type fleet struct {
	t      *testing.T
	s      *server   // takes the changes
	nodes  []*server // are asked for tokens, and whether they hold
	admin  string
	h      *history
	agents []*fleetAgent
	ticks  chan struct{}
}

type fleetAgent struct {
	id   string
	mu   sync.Mutex
	live []credential // revoked ones stay a while, to be refused
	last map[string]string
}

// node is the one that a client asks.
func (f *fleet) node(who int) *server { return f.nodes[who%len(f.nodes)] }

// request asks for one token and records the answer.
func (f *fleet) request(who int, a *fleetAgent, c credential) (token string) {
	f.h.do(who, input{opToken, a.id, c.ID}, func() (granted, keep bool) {
		r, err := f.node(who).tokenReply(c, "invoices:read")
		switch {
		case err != nil:
			f.t.Errorf("a token request: %v", err)
			return false, false
		case r.status == http.StatusOK:
			token = decode[tokenAnswer](f.t, r).AccessToken
			return true, true
		case r.status != http.StatusUnauthorized:
			f.t.Errorf("a token request: %d %s", r.status, r.body)
			return false, false
		}
		return false, true
	})
	return token
}

func (f *fleet) requester(who int, rnd *rand.Rand) {
	for range tokensEach {
		a := f.agents[rnd.IntN(len(f.agents))]
		a.mu.Lock()
		c := a.live[rnd.IntN(len(a.live))]
		a.mu.Unlock()
		if token := f.request(who, a, c); token != "" {
			a.mu.Lock()
			a.last[c.ID] = token
			a.mu.Unlock()
		}
		if rnd.IntN(12) == 0 {
			select {
			case f.ticks <- struct{}{}:
			default:
			}
		}
	}
}

// change calls the management API as a recorded operation.
func (f *fleet) change(who int, in input, method, path string, want int) {
	f.h.do(who, in, func() (granted, keep bool) {
		r, err := f.s.call(method, path, f.admin, nil)
		if err != nil || r.status != want {
			f.t.Errorf("%s: %d %s %v", in.kind, r.status, r.body, err)
			return false, false
		}
		return true, true
	})
}

// controller changes one agent, as often as the requesters let it. It gives how
// many tokens it saw dead at once.
func (f *fleet) controller(who int, a *fleetAgent, rnd *rand.Rand) (dead int) {
	suspended := false
	path := "/agents/" + a.id
	for range f.ticks {
		switch {
		case suspended:
			f.change(who, input{opReactivate, a.id, ""}, http.MethodPost, path+"/reactivate", http.StatusOK)
			suspended = false
		case rnd.IntN(4) > 0:
			killed := f.held(who, a, "")
			f.change(who, input{opSuspend, a.id, ""}, http.MethodPost, path+"/suspend", http.StatusOK)
			suspended = true
			dead += f.dead("suspension", killed)
		default:
			a.mu.Lock()
			c := a.live[len(a.live)-1]
			a.mu.Unlock()
			killed := f.held(who, a, c.ID)
			f.change(who, input{opRevoke, a.id, c.ID}, http.MethodDelete, path+"/credentials/"+c.ID, http.StatusNoContent)
			dead += f.dead("revocation", killed)
			f.replace(a)
		}
	}
	return dead
}

// held gives tokens of the agent, or of one credential, that were got before now:
// one that certainly holds, and what the requesters got last.
func (f *fleet) held(who int, a *fleetAgent, credentialID string) []string {
	a.mu.Lock()
	use := a.live[len(a.live)-1]
	var tokens []string
	for id, token := range a.last {
		if credentialID == "" || id == credentialID {
			tokens = append(tokens, token)
		}
	}
	a.mu.Unlock()
	own := f.request(who, a, use)
	if own == "" {
		f.t.Errorf("agent %s is active, but its credential %s got no token", a.id, use.ID)
		return tokens
	}
	if active, err := f.node(who+1).active(f.admin, own); err != nil || !active {
		f.t.Errorf("a token that was just issued: active=%t %v", active, err)
	}
	return append(tokens, own)
}

func (f *fleet) dead(after string, tokens []string) int {
	for i, token := range tokens {
		if active, err := f.node(i).active(f.admin, token); err != nil || active {
			f.t.Errorf("a token from before the %s: active=%t %v", after, active, err)
		}
	}
	return len(tokens)
}

// replace gives the agent a new credential for the one just revoked, which is
// kept, second to last, to be asked with and refused.
func (f *fleet) replace(a *fleetAgent) {
	r, err := f.s.call(http.MethodPost, "/agents/"+a.id+"/credentials", f.admin, nil)
	if err != nil || r.status != http.StatusCreated {
		f.t.Errorf("a new credential: %d %s %v", r.status, r.body, err)
		return
	}
	made := decode[credential](f.t, r)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.live) > firstCredentials {
		a.live = append(a.live[:firstCredentials-1], a.live[firstCredentials:]...)
	}
	a.live = append(a.live, made)
}

func newFleet(t *testing.T, name string, nodes []*server, admin credential) *fleet {
	t.Helper()
	s := nodes[0]
	f := &fleet{t: t, s: s, nodes: nodes, admin: s.token(t, admin, management), h: &history{began: time.Now()}, ticks: make(chan struct{})}
	for i := range agentCount {
		r := s.register(t, f.admin, fmt.Sprintf("fleet-%s-%d", name, i))
		a := &fleetAgent{id: r.ID, live: []credential{r.Credential}, last: map[string]string{}}
		for range firstCredentials - 1 {
			made := s.mustCall(t, http.MethodPost, "/agents/"+r.ID+"/credentials", f.admin, nil, http.StatusCreated)
			a.live = append(a.live, decode[credential](t, made))
		}
		f.agents = append(f.agents, a)
	}
	return f
}

func TestRevocationIsLinearizable(t *testing.T) {
	s := start(t, t.TempDir(), "RATE_LIMIT=off")
	revocationRun(t, newFleet(t, "one", []*server{s}, s.first(t)))
}

// revocationRun puts a fleet under load and checks the history.
func revocationRun(t *testing.T, f *fleet) {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) // any bits will do
	t.Logf("seed %d", seed)
	var requesters, controllers sync.WaitGroup
	dead := make([]int, agentCount)
	for i, a := range f.agents {
		controllers.Go(func() { dead[i] = f.controller(requesterCount+i, a, rand.New(rand.NewPCG(seed, uint64(1000+i)))) })
	}
	for i := range requesterCount {
		requesters.Go(func() { f.requester(i, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	requesters.Wait()
	close(f.ticks)
	controllers.Wait()
	f.check(dead, "token", "refusal", "suspend", "reactivate", "revoke")
}

// check asks whether some order of the operations, each between its call and its
// return, explains every answer. The load must have had each of these.
func (f *fleet) check(dead []int, needed ...string) {
	counts := map[string]int{}
	for _, op := range f.h.ops {
		in, _ := op.Input.(input)
		name := string(in.kind)
		if in.kind == opToken && op.Output == false {
			name = "refusal"
		}
		counts[name]++
	}
	died := 0
	for _, n := range dead {
		died += n
	}
	f.t.Logf("%d operations in %d histories: %v; %d tokens inactive at once", len(f.h.ops), len(partition(f.h.ops)), counts, died)
	for _, name := range needed {
		if counts[name] == 0 {
			f.t.Errorf("the load had no %s", name)
		}
	}
	verdict, info := porcupine.CheckOperationsVerbose(model(), f.h.ops, patience)
	if verdict == porcupine.Ok {
		return
	}
	picture := filepath.Join(f.t.ArtifactDir(), "history.html")
	f.t.Errorf("the history is %s; see %s: %v", verdict, picture, porcupine.VisualizePath(model(), info, picture))
}

// TestModelRefusesLateTokens makes sure that the model can fail.
func TestModelRefusesLateTokens(t *testing.T) {
	at := func(n int64, in input, granted bool) porcupine.Operation {
		return porcupine.Operation{Input: in, Call: 10 * n, Return: 10*n + 5, Output: granted}
	}
	for name, last := range map[string]porcupine.Operation{
		"granted after a suspension":   at(2, input{opToken, "a", "c"}, true),
		"refused after a reactivation": at(4, input{opToken, "a", "c"}, false),
		"granted after a revocation":   at(6, input{opToken, "a", "c"}, true),
	} {
		ops := []porcupine.Operation{
			at(0, input{opToken, "a", "c"}, true), at(1, input{opSuspend, "a", ""}, true),
			at(3, input{opReactivate, "a", ""}, true), at(5, input{opRevoke, "a", "c"}, true),
		}
		if !porcupine.CheckOperations(model(), ops) {
			t.Error("a legal history is refused")
		}
		if porcupine.CheckOperations(model(), append(ops, last)) {
			t.Errorf("%s is taken for legal", name)
		}
	}
}
