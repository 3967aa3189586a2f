package witness_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/witness"
)

// buffer is a log that can be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// aWitness is a witness that serves.
type aWitness struct {
	t     *testing.T
	url   string
	path  string
	key   note.Verifier
	store *witness.Store
	logs  *buffer
	stop  func()
}

// newWitness starts a witness. An empty path makes one with a state of its own; else
// it goes on with the state there.
func newWitness(t *testing.T, name, path string, now func() time.Time, logs ...*aLog) *aWitness {
	t.Helper()
	open := witness.OpenStore
	if path == "" {
		path, open = filepath.Join(t.TempDir(), "state"), witness.CreateStore
	}
	store, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	private, err := transparency.NewCosignerKey(name)
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := transparency.NewCosigner(private, now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := transparency.NewCosignatureVerifier(cosigner.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	w := &aWitness{t: t, path: path, key: key, store: store, logs: &buffer{}}
	cfg := witness.HandlerConfig{Store: store, Cosigner: cosigner, Logger: slog.New(slog.NewJSONHandler(w.logs, nil)), Now: time.Now}
	for _, l := range logs {
		cfg.Logs = append(cfg.Logs, l.key)
	}
	handler, err := witness.NewHandler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	w.url = s.URL
	w.stop = sync.OnceFunc(func() {
		s.Close()
		_ = store.Close()
	})
	t.Cleanup(w.stop)
	return w
}

func (w *aWitness) peer() witness.Witness { return witness.Witness{Key: w.key, URL: w.url} }

func (w *aWitness) state() string {
	w.t.Helper()
	text, err := os.ReadFile(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func bodyOf(old int64, proof tlog.TreeProof, checkpoint []byte) string {
	text := fmt.Sprintf("old %d\n", old)
	for _, h := range proof {
		text += h.String() + "\n"
	}
	return text + "\n" + string(checkpoint)
}

// post gives the status, the media type and the body.
func (w *aWitness) post(body string) (status int, mediaType, answer string) {
	w.t.Helper()
	resp, err := http.Post(w.url+"/add-checkpoint", "text/plain", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(text)
}

// cosigns expects the cosignature on a checkpoint.
func (w *aWitness) cosigns(old int64, proof tlog.TreeProof, checkpoint []byte) {
	w.t.Helper()
	status, _, answer := w.post(bodyOf(old, proof, checkpoint))
	if status != http.StatusOK {
		w.t.Fatalf("%d %s", status, answer)
	}
	n, err := note.Open(append(slices.Clip(checkpoint), answer...), note.VerifierList(w.key))
	if err != nil || len(n.Sigs) != 1 {
		w.t.Errorf("the answer %q: %v", answer, err)
	}
}

// refuses expects a status, and that nothing changed.
func (w *aWitness) refuses(want int, body string) (mediaType, answer string) {
	w.t.Helper()
	before := w.state()
	status, mediaType, answer := w.post(body)
	if status != want {
		w.t.Errorf("%.60q: %d %s, want %d", body, status, answer, want)
	}
	if strings.Contains(answer, "—") {
		w.t.Errorf("a refusal with a signature: %s", answer)
	}
	if w.state() != before {
		w.t.Errorf("%.60q changed the state to %s", body, w.state())
	}
	return mediaType, answer
}

func TestALogThatGrowsIsCosigned(t *testing.T) {
	l := newLog(t, "log.example/audit", 5)
	w := newWitness(t, "w.example/1", "", time.Now, l)
	w.cosigns(0, nil, l.signed(0))
	w.cosigns(0, nil, l.signed(0))
	w.cosigns(0, nil, l.signed(5))
	w.cosigns(5, nil, l.signed(5))
	l.grow(1000, "leaf")
	w.cosigns(5, l.proof(5, 1005), l.signed(1005))
	info, err := os.Stat(w.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the state file: %v, %v", info.Mode(), err)
	}
	if n := strings.Count(w.logs.String(), "\n"); n != 5 {
		t.Errorf("%d log lines:\n%s", n, w.logs)
	}
	var line struct {
		Level, Method, Path, Log string
		Status, Old, Size        int
	}
	lines := strings.Split(strings.TrimSpace(w.logs.String()), "\n")
	if err := json.Unmarshal([]byte(lines[4]), &line); err != nil {
		t.Fatal(err)
	}
	if line.Level != "INFO" || line.Method != http.MethodPost || line.Path != "/add-checkpoint" || line.Status != 200 || line.Log != "log.example/audit" || line.Old != 5 || line.Size != 1005 {
		t.Errorf("the log line: %+v", line)
	}
}

func TestLinesAfterTheThirdAreSignedToo(t *testing.T) {
	l := newLog(t, "log.example/audit", 5)
	w := newWitness(t, "w", "", time.Now, l)
	w.cosigns(0, nil, l.sign(l.at(5).Text()+"an extension\n"))
}

func TestWhatIsWrongIsRefused(t *testing.T) {
	l, other := newLog(t, "log.example/audit", 20), newLog(t, "log.example/audit", 20)
	w := newWitness(t, "w", "", time.Now, l)
	w.cosigns(0, nil, l.signed(10))
	good, proof := l.signed(20), l.proof(10, 20)
	wrong := append(tlog.TreeProof{}, proof...)
	wrong[1][0] ^= 1
	unknown := newLog(t, "other.example/audit", 1)
	badRoot := strings.Replace(string(good), l.at(20).Root.String()[:5], "AAAAA", 1)
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"another log":             {404, bodyOf(10, nil, unknown.newest())},
		"another key":             {403, bodyOf(10, proof, other.signed(20))},
		"a changed root":          {403, bodyOf(10, proof, []byte(badRoot))},
		"an unsigned text":        {400, bodyOf(10, proof, []byte(l.at(20).Text()))},
		"no checkpoint":           {400, bodyOf(10, proof, nil)},
		"an empty body":           {400, ""},
		"a signed text":           {400, bodyOf(10, proof, l.sign("log.example/audit\nnot a size\nx\n"))},
		"a tree past all bounds":  {400, bodyOf(10, proof, l.sign("log.example/audit\n9223372036854775807\n"+l.at(20).Root.String()+"\n"))},
		"old past all bounds":     {400, bodyOf(1<<62+1, proof, good)},
		"an old size larger":      {400, bodyOf(21, nil, good)},
		"a proof of another tree": {422, bodyOf(10, wrong, good)},
		"a cut proof":             {422, bodyOf(10, proof[1:], good)},
		"no proof":                {422, bodyOf(10, nil, good)},
		"a proof of nothing":      {422, bodyOf(10, proof, l.signed(10))},
		"too many hashes":         {400, bodyOf(10, make(tlog.TreeProof, 64), good)},
		"an endless body":         {413, strings.Repeat("x", 200<<10)},
		"a carriage return":       {400, strings.Replace(bodyOf(10, proof, good), "\n", "\r\n", 1)},
		"a leading zero":          {400, strings.Replace(bodyOf(10, proof, good), "old 10", "old 010", 1)},
		"a sign":                  {400, strings.Replace(bodyOf(10, proof, good), "old 10", "old +10", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.refuses(c.status, c.body)
		})
	}
	w.t = t
	for _, old := range []int64{0, 9, 11, 20} {
		if mediaType, answer := w.refuses(409, bodyOf(old, nil, good)); mediaType != "text/x.tlog.size" || answer != "10\n" {
			t.Errorf("old %d: %s %q", old, mediaType, answer)
		}
	}
	w.cosigns(10, proof, good)
	fresh := newWitness(t, "fresh", "", time.Now, l)
	fresh.refuses(422, bodyOf(0, proof, good))
	fresh.refuses(422, bodyOf(0, nil, l.sign("log.example/audit\n0\n"+l.at(20).Root.String()+"\n")))
}

func TestAWitnessKnowsOneRequest(t *testing.T) {
	w := newWitness(t, "w", "", time.Now)
	for path, want := range map[string]int{"/": 404, "/add-checkpoint/": 404, "/add-checkpoint": 405} {
		resp, err := http.Get(w.url + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	l := newLog(t, "log.example/audit", 1)
	cfg := witness.HandlerConfig{Logs: []note.Verifier{l.key, newLog(t, "log.example/audit", 1).key}}
	if _, err := witness.NewHandler(cfg); err == nil {
		t.Error("two keys of one origin are taken")
	}
}

// A fork of the size that was cosigned is proof by itself, and is kept as such.
func TestALogThatForksIsRefused(t *testing.T) {
	l := newLog(t, "log.example/audit", 10)
	w := newWitness(t, "w", "", time.Now, l)
	fork := l.fork(8)
	w.cosigns(0, nil, l.signed(10))
	fork.grow(2, "forged")
	for _, old := range []int64{10, 8, 0} {
		if mediaType, answer := w.refuses(409, bodyOf(old, nil, fork.signed(10))); mediaType != "text/x.tlog.size" || answer != "10\n" {
			t.Errorf("%s %q", mediaType, answer)
		}
	}
	var line struct{ Level, Error, Known, Shown string }
	last := strings.Split(strings.TrimSpace(w.logs.String()), "\n")
	if err := json.Unmarshal([]byte(last[len(last)-1]), &line); err != nil {
		t.Fatal(err)
	}
	known, errKnown := transparency.Open([]byte(line.Known), l.key)
	shown, errShown := transparency.Open([]byte(line.Shown), l.key)
	if err := errors.Join(errKnown, errShown); err != nil || line.Level != "ERROR" || known != l.at(10) || shown != fork.at(10) {
		t.Errorf("the evidence in the log: %+v, %v", line, err)
	}
	fork.grow(10, "forged")
	w.refuses(422, bodyOf(10, fork.proof(10, 20), fork.signed(20)))
	w.refuses(422, bodyOf(10, l.proof(8, 10), fork.signed(20)))
	if n := strings.Count(w.logs.String(), `"level":"WARN"`); n != 2 || !strings.Contains(w.logs.String(), `"shown":"log.example/audit\n20\n`) {
		t.Errorf("the wrong proofs in the log: %s", w.logs)
	}
	l.grow(10, "leaf")
	w.cosigns(10, l.proof(10, 20), l.signed(20))
}

func TestALogThatWasRolledBackIsRefused(t *testing.T) {
	l := newLog(t, "log.example/audit", 10)
	w := newWitness(t, "w", "", time.Now, l)
	w.cosigns(0, nil, l.signed(10))
	old := l.fork(6)
	for _, size := range []int64{6, 3, 0} {
		if _, answer := w.refuses(409, bodyOf(size, nil, old.signed(6))); answer != "10\n" {
			t.Errorf("old %d: %q", size, answer)
		}
	}
	old.grow(9, "again")
	w.refuses(422, bodyOf(10, old.proof(10, 15), old.signed(15)))
}

// TestACrashBeforeTheAnswerLosesNothing breaks down just between record and signature:
// what was recorded binds, though nobody got the cosignature.
func TestACrashBeforeTheAnswerLosesNothing(t *testing.T) {
	l := newLog(t, "log.example/audit", 10)
	fork := l.fork(5)
	fork.grow(5, "forged")
	dead := newWitness(t, "w", "", func() time.Time { panic(http.ErrAbortHandler) }, l)
	resp, err := http.Post(dead.url+"/add-checkpoint", "text/plain", strings.NewReader(bodyOf(0, nil, l.signed(10))))
	if err == nil {
		_ = resp.Body.Close()
		t.Fatalf("it answered %s", resp.Status)
	}
	dead.stop()
	w := newWitness(t, "w", dead.path, time.Now, l)
	w.refuses(409, bodyOf(0, nil, fork.signed(10)))
	w.refuses(409, bodyOf(10, nil, fork.signed(10)))
	w.refuses(409, bodyOf(0, nil, l.signed(10)))
	w.cosigns(10, nil, l.signed(10))
}

// A state that cannot be written is not signed for.
func TestWhatCannotBeRecordedIsNotSigned(t *testing.T) {
	l := newLog(t, "log.example/audit", 10)
	w := newWitness(t, "w", "", time.Now, l)
	home := filepath.Dir(w.path)
	if err := os.Rename(home, home+".away"); err != nil {
		t.Fatal(err)
	}
	if status, _, answer := w.post(bodyOf(0, nil, l.signed(10))); status != 500 || strings.Contains(answer, w.path) {
		t.Errorf("%d %s", status, answer)
	}
	if err := os.Rename(home+".away", home); err != nil {
		t.Fatal(err)
	}
	w.cosigns(0, nil, l.signed(5))
}

// TestOf64RequestsAtOnceNoTwoContradict sends two branches of a log from 64 sides.
func TestOf64RequestsAtOnceNoTwoContradict(t *testing.T) {
	l := newLog(t, "log.example/audit", 10)
	w := newWitness(t, "w", "", time.Now, l)
	w.cosigns(0, nil, l.signed(10))
	fork := l.fork(10)
	l.grow(32, "leaf")
	fork.grow(32, "forged")
	bodies := make([]string, 64)
	for i := range bodies {
		branch := []*aLog{l, fork}[i%2]
		size := int64(11 + i/2)
		bodies[i] = bodyOf(10, branch.proof(10, size), branch.signed(size))
	}
	statuses := make([]int, len(bodies))
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range bodies {
		group.Go(func() {
			<-start
			statuses[i], _, _ = w.post(bodies[i])
		})
	}
	close(start)
	group.Wait()
	signed := 0
	for i, status := range statuses {
		switch status {
		case 200:
			signed++
			if size := fmt.Sprintf(`"size":%d,`, 11+i/2); !strings.Contains(w.state(), size) {
				t.Errorf("signed was %s but remembered is %s", size, w.state())
			}
		case 409:
		default:
			t.Errorf("request %d: %d", i, status)
		}
	}
	if signed != 1 {
		t.Errorf("%d of 64 checkpoints that all begin at 10 were signed", signed)
	}
}
