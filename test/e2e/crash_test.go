package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The load of a round: the server is killed after a random number of answers.
const (
	crashRounds     = 20
	leastAnswers    = 50
	mostAnswers     = 600
	crashTokenLoad  = 6
	crashAgentsLoad = 4
)

// promised is what the server has answered for, and so must never lose.
type promised struct {
	mu     sync.Mutex
	tokens []string // jti
	agents []registered
}

func (p *promised) add(q *promised) {
	p.tokens = append(p.tokens, q.tokens...)
	p.agents = append(p.agents, q.agents...)
}

// trail is the audit record as it was read after each crash.
type trail struct {
	ids    map[int64]string // of events, by sequence
	issued map[string]bool  // tokens, by jti
	made   map[string]bool  // agents, by id
}

type event struct {
	ID       string `json:"id"`
	Sequence int64  `json:"sequence"`
	Action   string `json:"action"`
	Outcome  string `json:"outcome"`
	Target   struct {
		ID string `json:"id"`
	} `json:"target"`
}

type page[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"nextCursor"`
}

// all reads every page of a list.
func all[T any](t *testing.T, s *server, bearer, path string, query url.Values) []T {
	t.Helper()
	var items []T
	query.Set("limit", "200")
	for {
		p := decode[page[T]](t, s.mustCall(t, http.MethodGet, path+"?"+query.Encode(), bearer, nil, http.StatusOK))
		items = append(items, p.Items...)
		if p.NextCursor == nil {
			return items
		}
		query.Set("cursor", *p.NextCursor)
	}
}

// read adds the events since a time, and checks that every sequence from the
// first on is there once.
func (r *trail) read(t *testing.T, s *server, bearer string, since time.Time) {
	t.Helper()
	query := url.Values{}
	if !since.IsZero() {
		query.Set("from", since.UTC().Format(time.RFC3339Nano))
	}
	for _, e := range all[event](t, s, bearer, "/audit/events", query) {
		if known, ok := r.ids[e.Sequence]; ok && known != e.ID {
			t.Errorf("sequence %d stands on two events: %s and %s", e.Sequence, known, e.ID)
		}
		r.ids[e.Sequence] = e.ID
		switch {
		case e.Action == "token.issued" && e.Outcome == "success":
			r.issued[e.Target.ID] = true
		case e.Action == "agent.created":
			r.made[e.Target.ID] = true
		}
	}
	for n := range int64(len(r.ids)) {
		if _, ok := r.ids[n+1]; !ok {
			t.Fatalf("of %d events none has the sequence %d", len(r.ids), n+1)
		}
	}
}

// load sends requests until the server is gone. What it answered is noted.
type load struct {
	t        *testing.T
	s        *server
	admin    string
	client   credential
	round    int
	answers  atomic.Int64
	killAt   int64
	reached  chan struct{}
	once     sync.Once
	promised promised
}

// worker repeats a request until it gets no answer any more. Before the kill
// every request must be answered well.
func (l *load) worker(want int, ask func(n int) (reply, error), note func(r reply)) {
	for n := 0; ; n++ {
		r, err := ask(n)
		if err != nil {
			if l.answers.Load() < l.killAt {
				l.t.Errorf("round %d: no answer before the kill: %v", l.round, err)
				l.once.Do(func() { close(l.reached) })
			}
			return
		}
		if r.status != want {
			l.t.Errorf("round %d: status %d, want %d: %s", l.round, r.status, want, r.body)
			l.once.Do(func() { close(l.reached) })
			return
		}
		l.promised.mu.Lock()
		note(r)
		l.promised.mu.Unlock()
		if l.answers.Add(1) >= l.killAt {
			l.once.Do(func() { close(l.reached) })
		}
	}
}

func (l *load) run() {
	var workers sync.WaitGroup
	for range crashTokenLoad {
		workers.Go(func() {
			l.worker(http.StatusOK, func(int) (reply, error) { return l.s.tokenReply(l.client, "invoices:read") }, l.noteToken)
		})
	}
	for i := range crashAgentsLoad {
		workers.Go(func() {
			l.worker(http.StatusCreated, func(n int) (reply, error) {
				return l.s.call(http.MethodPost, "/agents", l.admin, draft(fmt.Sprintf("crash-%d-%d-%d", l.round, i, n)))
			}, l.noteAgent)
		})
	}
	<-l.reached
	l.s.kill(l.t)
	workers.Wait()
}

func (l *load) noteToken(r reply) {
	payload, err := claims(decode[tokenAnswer](l.t, r).AccessToken)
	jti, ok := payload["jti"].(string)
	if err != nil || !ok {
		l.t.Errorf("a token without a jti: %v %v", payload, err)
		return
	}
	l.promised.tokens = append(l.promised.tokens, jti)
}

func (l *load) noteAgent(r reply) {
	l.promised.agents = append(l.promised.agents, decode[registered](l.t, r))
}

// TestNothingAnsweredIsLost kills the server again and again under load.
func TestNothingAnsweredIsLost(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	// Fingerprints alone: bcrypt would leave time for few registrations.
	env := []string{"RATE_LIMIT=off", "SECRET_HASHER=hmac"}
	s := start(t, dir, env...)
	admin := s.first(t)
	client := s.register(t, s.token(t, admin, management), "crash").Credential
	record := &trail{ids: map[int64]string{}, issued: map[string]bool{}, made: map[string]bool{}}
	record.read(t, s, s.token(t, admin, management), time.Time{})
	var total promised
	for round := range crashRounds {
		began := time.Now().Add(-time.Minute) // the server's clock is this one
		l := &load{
			t: t, s: s, admin: s.token(t, admin, management), client: client, round: round,
			killAt: int64(leastAnswers + rnd.IntN(mostAnswers-leastAnswers)), reached: make(chan struct{}),
		}
		l.run()
		s = start(t, dir, env...)
		bearer := s.token(t, admin, management)
		record.read(t, s, bearer, began)
		survived(t, s, bearer, record, &l.promised)
		total.add(&l.promised)
		if t.Failed() {
			t.Fatalf("round %d of seed %d", round, seed)
		}
	}
	finally(t, s, s.token(t, admin, management), &total)
	t.Logf("seed %d: %d rounds, %d tokens and %d agents answered for, %d events, none lost", seed, crashRounds, len(total.tokens), len(total.agents), len(record.ids))
	s.stop(t)
}

// survived looks for everything of one round.
func survived(t *testing.T, s *server, bearer string, record *trail, p *promised) {
	t.Helper()
	for _, jti := range p.tokens {
		if !record.issued[jti] {
			t.Errorf("lost: the event of token %s", jti)
		}
	}
	for _, a := range p.agents {
		if !record.made[a.ID] {
			t.Errorf("lost: the event of agent %s", a.ID)
		}
		s.mustCall(t, http.MethodGet, "/agents/"+a.ID, bearer, nil, http.StatusOK)
	}
	if n := len(p.agents); n > 0 {
		s.token(t, p.agents[n-1].Credential, "invoices:read") // the secret was kept with the agent
	}
}

// finally reads everything once more, in the end.
func finally(t *testing.T, s *server, bearer string, total *promised) {
	t.Helper()
	var issued []string
	for _, e := range all[event](t, s, bearer, "/audit/events", url.Values{"action": {"token.issued"}}) {
		issued = append(issued, e.Target.ID)
	}
	slices.Sort(issued)
	if distinct := slices.Compact(slices.Clone(issued)); len(distinct) != len(issued) {
		t.Errorf("%d events of %d tokens", len(issued), len(distinct))
	}
	for _, jti := range total.tokens {
		if _, ok := slices.BinarySearch(issued, jti); !ok {
			t.Errorf("lost in the end: the event of token %s", jti)
		}
	}
	listed := map[string]bool{}
	for _, a := range all[registered](t, s, bearer, "/agents", url.Values{}) {
		listed[a.ID] = true
	}
	for _, a := range total.agents {
		if !listed[a.ID] {
			t.Errorf("lost in the end: agent %s", a.ID)
		}
	}
}
