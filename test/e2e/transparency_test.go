package e2e_test

import (
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// The rounds, the clients that ask for tokens meanwhile, and when a node is killed.
const (
	treeRounds         = 20
	embeddedTreeRounds = 5
	sleepRounds        = 5
	mostSleep          = 6 * time.Second
	treeClients        = 6
	mostCheckpoints    = 5   // that are seen before the crash
	mostAnswersAfter   = 200 // of tokens, between the last of them and the crash
	// lookEvery is how often a node's checkpoint is read, and how long a client waits
	// that got no answer.
	lookEvery = 20 * time.Millisecond
)

// crashing is nodes under load, of which the one that grows the tree is killed again
// and again.
type crashing struct {
	t      *testing.T
	client credential
	watch  *watcher
	began  time.Time
	stop   chan struct{}
	others sync.WaitGroup

	mu    sync.Mutex
	nodes []*server
	read  []int   // how much of a node's log was read
	terms []int64 // the last for which it had the right to grow the tree

	answered atomic.Int64
	tokens   []string // jti of each that was answered
}

func newCrashing(t *testing.T, admin credential, nodes ...*server) *crashing {
	t.Helper()
	bearer := nodes[0].token(t, admin, management)
	_, key := nodes[0].logKey(t)
	return &crashing{
		t: t, client: nodes[0].register(t, bearer, "crashing").Credential, watch: &watcher{t: t, key: key, roots: map[int64]tlog.Hash{}},
		began: time.Now(), stop: make(chan struct{}), nodes: nodes, read: make([]int, len(nodes)), terms: make([]int64, len(nodes)),
	}
}

func (c *crashing) node(i int) *server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[i]
}

// pause reports whether it is time to go on.
func (c *crashing) pause() bool {
	select {
	case <-c.stop:
		return false
	case <-time.After(lookEvery):
		return true
	}
}

func (c *crashing) over() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// begin starts the clients and the watchers.
func (c *crashing) begin(seed uint64) {
	for i := range treeClients {
		c.others.Go(func() { c.ask(i, rand.New(rand.NewPCG(seed, uint64(i+1)))) })
	}
	for i := range c.nodes {
		c.others.Go(func() {
			for size := int64(0); c.pause(); {
				size = c.watch.look(c.node(i), size)
			}
		})
	}
}

// ask asks for tokens: the first clients each their own node, the others any. That one
// was killed is no failure; every answer is to be a token.
func (c *crashing) ask(who int, rnd *rand.Rand) {
	for !c.over() {
		node := who
		if node >= len(c.nodes) {
			node = rnd.IntN(len(c.nodes))
		}
		r, err := c.node(node).tokenReply(c.client, "invoices:read")
		if err != nil {
			c.pause()
			continue
		}
		if r.status != http.StatusOK {
			c.t.Errorf("asking for a token: %d %s", r.status, r.body)
			c.pause()
			continue
		}
		payload, err := claims(decode[tokenAnswer](c.t, r).AccessToken)
		jti, ok := payload["jti"].(string)
		if err != nil || !ok {
			c.t.Errorf("a token without a jti: %v %v", payload, err)
			return
		}
		c.mu.Lock()
		c.tokens = append(c.tokens, jti)
		c.mu.Unlock()
		c.answered.Add(1)
	}
}

var growsLine = regexp.MustCompile(`"msg":"this node grows the record's tree","term":([0-9]+)`)

// latest tells which node last got the right to grow the tree, and for which term.
func (c *crashing) latest() (who int, term int64) {
	c.t.Helper()
	for i, node := range c.nodes {
		text := node.stdout.from(c.read[i])
		text = text[:strings.LastIndexByte(text, '\n')+1]
		c.read[i] += len(text)
		for _, found := range growsLine.FindAllStringSubmatch(text, -1) {
			n, err := strconv.ParseInt(found[1], 10, 64)
			if err != nil {
				c.t.Fatal(err)
			}
			c.terms[i] = n
		}
		if c.terms[i] > term {
			who, term = i, c.terms[i]
		}
	}
	return who, term
}

// leader waits until a node has that right for a term after the one given.
func (c *crashing) leader(after int64) (who int, term int64) {
	c.t.Helper()
	waitFor(c.t, "a node that grows the tree", func() bool {
		who, term = c.latest()
		return term > after
	})
	return who, term
}

// round lets the node that grows the tree work a while, kills it, and has another one in
// its place at once.
func (c *crashing) round(after int64, rnd *rand.Rand, again func() *server) (term int64) {
	c.t.Helper()
	who, term := c.leader(after)
	seen := c.watch.seen() + rnd.IntN(mostCheckpoints+1)
	waitFor(c.t, "some checkpoints", func() bool { return c.watch.seen() >= seen })
	goal := c.answered.Load() + int64(rnd.IntN(mostAnswersAfter))
	waitFor(c.t, "some load", func() bool { return c.answered.Load() >= goal })
	c.nodes[who].kill(c.t)
	node := again()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes[who], c.read[who], c.terms[who] = node, 0, 0
	return term
}

// run does all rounds under load.
func (c *crashing) run(rounds int, round func(after int64, rnd *rand.Rand) (term int64)) {
	c.t.Helper()
	seed := uint64(time.Now().UnixNano()) // any bits will do
	c.t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c.begin(seed)
	end := sync.OnceFunc(func() {
		close(c.stop)
		c.others.Wait()
	})
	defer end()
	term := int64(0)
	for n := range rounds {
		term = round(term, rnd)
		if c.t.Failed() {
			c.t.Fatalf("after round %d", n+1)
		}
	}
	c.leader(term)
	end()
}

// crash gives the rounds in which the node that grows the tree is killed.
func (c *crashing) crash(again func() *server) func(int64, *rand.Rand) int64 {
	return func(after int64, rnd *rand.Rand) int64 { return c.round(after, rnd, again) }
}

// sleep is a round in which the node that grows the tree is not killed but stopped, in
// whatever it does, and goes on when another one has taken its place. One that is
// stopped with a lock of the database in its hands keeps all from working; then it is
// woken up and the round begins anew.
func (c *crashing) sleep(after int64, rnd *rand.Rand) (term int64) {
	c.t.Helper()
	who, term := c.leader(after)
	for {
		goal := c.answered.Load() + int64(rnd.IntN(mostAnswersAfter))
		waitFor(c.t, "some load", func() bool { return c.answered.Load() >= goal })
		c.nodes[who].signal(c.t, syscall.SIGSTOP)
		until := time.Now().Add(mostSleep)
		next := term
		for next == term && time.Now().Before(until) {
			time.Sleep(lookEvery)
			_, next = c.latest()
		}
		c.nodes[who].signal(c.t, syscall.SIGCONT)
		if next > term {
			return term
		}
		if who, term = c.latest(); time.Since(c.began) > patience {
			c.t.Fatal("nobody took over from a node that was stopped")
		}
	}
}

// judge checks the tree, everything that was seen of it, and what was promised.
func (c *crashing) judge(s *server, o owner, admin credential) {
	t := c.t
	t.Helper()
	size := s.covers(t, o, c.watch.key)
	c.watch.look(s, size)
	if n, last := o.number("SELECT count(*) FROM audit_events"), o.number("SELECT max(sequence) FROM audit_events"); n != size || last != size {
		t.Errorf("%d events, the last %d, and a tree of %d", n, last, size)
	}
	proofs := c.watch.agree(s)

	verified := exits(t, 0, auditor(admin), nil, "audit", "verify", "--url", s.base, "--all")
	leaves, events, hidden := right(t, verified)
	t.Log(strings.TrimSpace(lineWith(verified.stdout, "rate")))
	if leaves < size || events != leaves || hidden != 0 {
		t.Errorf("verified were %d events of %d leaves, %d hidden; committed were %d", events, leaves, hidden, size)
	}
	file := filepath.Join(t.TempDir(), "events.ndjson")
	exits(t, 0, auditor(admin), nil, "audit", "export", "--url", s.base, "--all", "--proof", "-o", file)
	key, _ := s.logKey(t)
	exits(t, 0, nil, nil, "audit", "verify", file, "--all", "--key", key)
	issued, twice := c.issuedIn(file)
	lost := 0
	for _, jti := range c.tokens {
		if issued[jti] != 1 {
			lost++
		}
	}
	t.Logf("%d tokens answered, %d lost; %d events, %d of them token.issued, %d twice; a tree of %d leaves; %d distinct checkpoints seen in %d looks, %d consistency proofs",
		len(c.tokens), lost, size, len(issued), twice, leaves, len(c.watch.roots), c.watch.looks, proofs)
	if lost > 0 || twice > 0 || len(c.tokens) == 0 || proofs == 0 {
		t.Errorf("of %d tokens %d are not on record, %d twice; %d proofs", len(c.tokens), lost, twice, proofs)
	}
}

// issuedIn counts how often each token's event is in an export.
func (c *crashing) issuedIn(file string) (issued map[string]int, twice int) {
	c.t.Helper()
	in, err := os.Open(file)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	issued, leaves := map[string]int{}, map[string]bool{}
	events, _ := readExport(c.t, in)
	for _, e := range events {
		if leaves[e.LeafHash] || leaves[e.ID] {
			twice++
		}
		leaves[e.LeafHash], leaves[e.ID] = true, true
		if e.Action == "token.issued" {
			if issued[e.Target.ID]++; issued[e.Target.ID] > 1 {
				twice++
			}
		}
	}
	return issued, twice
}

// TestTheTreeSurvivesTheCrashesOfWhoGrowsIt kills, of two nodes on one database, the
// one that grows the tree, under load: the other takes over, and nothing that was
// answered or published is ever taken back (R4).
func TestTheTreeSurvivesTheCrashesOfWhoGrowsIt(t *testing.T) {
	pg := startPostgres(t)
	cluster := startNodes(t, 2, postgresURL("postgres", pg))
	c := newCrashing(t, cluster.admin, cluster.nodes...)
	c.run(treeRounds, c.crash(func() *server { return start(t, t.TempDir(), cluster.env...) }))
	c.judge(c.nodes[0], openDatabase(t, "pgx", pg.URL("postgres")), cluster.admin)
}

// A node that slept while another one took its place is told so when it wakes up, in
// whatever it was about to write.
func TestANodeThatWakesUpTakesNothingBack(t *testing.T) {
	pg := startPostgres(t)
	cluster := startNodes(t, 2, postgresURL("postgres", pg))
	c := newCrashing(t, cluster.admin, cluster.nodes...)
	c.run(sleepRounds, c.sleep)
	c.judge(c.nodes[0], openDatabase(t, "pgx", pg.URL("postgres")), cluster.admin)
}

// The embedded engine has one node, which takes the tree up again when it is back.
func TestTheEmbeddedTreeSurvivesCrashes(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, auditEnv...)
	admin := s.first(t)
	c := newCrashing(t, admin, s)
	c.run(embeddedTreeRounds, c.crash(func() *server { return start(t, dir, auditEnv...) }))
	c.judge(c.nodes[0], embedded(t, filepath.Join(dir, "agentidp.db")), admin)
}
