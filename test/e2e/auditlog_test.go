package e2e_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	_ "modernc.org/sqlite" // the driver
)

// auditEnv is what the servers of these tests are started with: one issuer, and so
// one origin of the log, whatever the port.
var auditEnv = []string{"RATE_LIMIT=off", "SECRET_HASHER=hmac", "JWT_ISSUER=http://idp.example.test"}

// owner is a database as the one who owns it sees it.
type owner struct {
	t  *testing.T
	db *sql.DB
}

func openDatabase(t *testing.T, driver, name string) owner {
	t.Helper()
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return owner{t, db}
}

// embedded opens the database of a data directory, beside a running server or not.
func embedded(t *testing.T, path string) owner {
	t.Helper()
	return openDatabase(t, "sqlite", "file:"+path+"?_pragma=busy_timeout(60000)")
}

func (o owner) number(query string, args ...any) (n int64) {
	o.t.Helper()
	if err := o.db.QueryRow(query, args...).Scan(&n); err != nil {
		o.t.Fatalf("%s: %v", query, err)
	}
	return n
}

func (o owner) exec(query string, args ...any) {
	o.t.Helper()
	if _, err := o.db.Exec(query, args...); err != nil {
		o.t.Fatalf("%s: %v", query, err)
	}
}

// head is the sequence of the last event that was committed.
func (o owner) head() int64 { return o.number("SELECT sequence FROM audit_head") }

// grown is how many events the tree has, published or not.
func (o owner) grown() int64 { return o.number("SELECT size FROM audit_tree") }

// signed is a checkpoint as a reader has it: the note, and what it says.
type signed struct {
	note *note.Note
	tree tlog.Tree
}

var checkpointText = regexp.MustCompile(`^([^\n]+)\n(0|[1-9][0-9]*)\n([A-Za-z0-9+/]{43}=)\n$`)

// openCheckpoint reads a checkpoint by the library alone. Every verifier's signature
// must be there.
func openCheckpoint(text []byte, verifiers ...note.Verifier) (signed, error) {
	n, err := note.Open(text, note.VerifierList(verifiers...))
	if err != nil {
		return signed{}, err
	}
	parts := checkpointText.FindStringSubmatch(n.Text)
	if parts == nil || parts[1] != verifiers[0].Name() || len(n.Sigs) != len(verifiers) {
		return signed{}, fmt.Errorf("not a checkpoint with %d signatures: %q", len(verifiers), text)
	}
	size, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return signed{}, err
	}
	root, err := tlog.ParseHash(parts[3])
	return signed{n, tlog.Tree{N: size, Hash: root}}, err
}

// logKey gives the log's verifier key.
func (s *server) logKey(t *testing.T) (text string, verifier note.Verifier) {
	t.Helper()
	text = string(s.mustCall(t, http.MethodGet, "/audit/key", "", nil, http.StatusOK).body)
	text = text[:len(text)-1]
	verifier, err := note.NewVerifier(text)
	if err != nil {
		t.Fatalf("the log's key %q: %v", text, err)
	}
	return text, verifier
}

// published reads the newest checkpoint. It gives false where there is none yet, or
// where not every verifier has signed it.
func (s *server) published(t *testing.T, verifiers ...note.Verifier) (size int64, ok bool) {
	t.Helper()
	r, err := s.call(http.MethodGet, "/audit/checkpoint", "", nil)
	if err != nil || r.status != http.StatusOK && r.status != http.StatusServiceUnavailable {
		t.Fatalf("the newest checkpoint: %d %s %v", r.status, r.body, err)
	}
	c, err := openCheckpoint(r.body, verifiers...)
	return c.tree.N, err == nil
}

// covers waits until what is published covers every event that is committed.
func (s *server) covers(t *testing.T, o owner, verifiers ...note.Verifier) (size int64) {
	t.Helper()
	waitFor(t, "a checkpoint of all that is committed", func() (ok bool) {
		size, ok = s.published(t, verifiers...)
		return ok && size == o.head()
	})
	return size
}

// watcher remembers every checkpoint that was seen.
type watcher struct {
	t     *testing.T
	key   note.Verifier
	mu    sync.Mutex
	roots map[int64]tlog.Hash
	looks int
}

// look reads the newest checkpoint of a node, where it answers, and gives its size.
func (w *watcher) look(node *server, before int64) (size int64) {
	r, err := node.call(http.MethodGet, "/audit/checkpoint", "", nil)
	if err != nil || r.status == http.StatusServiceUnavailable {
		return before // it was killed, or there is none yet
	}
	if r.status != http.StatusOK {
		w.t.Errorf("a checkpoint: %d %s", r.status, r.body)
		return before
	}
	c, err := openCheckpoint(r.body, w.key)
	if err != nil {
		w.t.Error(err)
		return before
	}
	if c.tree.N < before {
		w.t.Errorf("the log had %d leaves, and then %d", before, c.tree.N)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	if root, ok := w.roots[c.tree.N]; ok && root != c.tree.Hash {
		w.t.Errorf("two checkpoints of %d leaves: %s and %s", c.tree.N, root, c.tree.Hash)
	}
	w.roots[c.tree.N] = c.tree.Hash
	return c.tree.N
}

// seen is how many distinct checkpoints were seen.
func (w *watcher) seen() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.roots)
}

// agree has it proven that each checkpoint grew out of the one before.
func (w *watcher) agree(node *server) (proofs int) {
	w.t.Helper()
	sizes := slices.Sorted(maps.Keys(w.roots))
	for i := 1; i < len(sizes); i++ {
		from, to := sizes[i-1], sizes[i]
		if from == 0 {
			continue // there is nothing to prove
		}
		answer := decode[struct {
			From, To int64
			Hashes   tlog.TreeProof
		}](w.t, node.mustCall(w.t, http.MethodGet, fmt.Sprintf("/audit/consistency?from=%d&to=%d", from, to), "", nil, http.StatusOK))
		if err := tlog.CheckTree(answer.Hashes, to, w.roots[to], from, w.roots[from]); err != nil || answer.From != from || answer.To != to {
			w.t.Errorf("the checkpoints of %d and %d leaves contradict each other: %v", from, to, err)
		}
		proofs++
	}
	return proofs
}

// auditor lets a command ask a server as a client.
func auditor(c credential) []string {
	return []string{"AGENTIDP_CLIENT_ID=" + c.ClientID, "AGENTIDP_CLIENT_SECRET=" + c.ClientSecret}
}

// exits runs a command that must end with the code and say something.
func exits(t *testing.T, code int, env, says []string, args ...string) result {
	t.Helper()
	r := run(t, "", env, args...)
	if r.code != code {
		t.Fatalf("agentidp %v: exit code %d, want %d\n%s%s", args, r.code, code, r.stdout, r.stderr)
	}
	contains(t, r.stdout+r.stderr, says...)
	return r
}

var rightLine = regexp.MustCompile(`(?m)^the record is right: \S+, ([0-9]+) leaves\n +events +([0-9]+) verified\n +not shown +([0-9]+) leaves`)

// right reads what audit verify says of a record that is right.
func right(t *testing.T, r result) (leaves, events, hidden int64) {
	t.Helper()
	parts := rightLine.FindStringSubmatch(r.stdout)
	if parts == nil {
		t.Fatalf("audit verify says:\n%s%s", r.stdout, r.stderr)
	}
	for i, n := range []*int64{&leaves, &events, &hidden} {
		var err error
		if *n, err = strconv.ParseInt(parts[i+1], 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return leaves, events, hidden
}

// exportedEvent is a line of an export, as far as these tests read it.
type exportedEvent struct {
	event
	LeafHash   string          `json:"leafHash"`
	Leaves     []int64         `json:"leaves"`
	Checkpoint *string         `json:"checkpoint"`
	Raw        json.RawMessage `json:"-"`
}

// readExport gives the events of an export and counts its other lines.
func readExport(t *testing.T, r io.Reader) (events []exportedEvent, others int) {
	t.Helper()
	d := json.NewDecoder(r)
	for d.More() {
		var raw json.RawMessage
		var e exportedEvent
		if err := d.Decode(&raw); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		if e.Sequence == 0 {
			others++
			continue
		}
		e.Raw = raw
		events = append(events, e)
	}
	return events, others
}
