package e2e_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// anyLog is a log that shares no code with the product: RFC 6962 and C2SP by hand.
type anyLog struct {
	origin  string
	private ed25519.PrivateKey
	leaves  [][]byte
}

func newAnyLog(t *testing.T, leaves int) *anyLog {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := &anyLog{origin: "log.example/audit", private: private}
	l.grow(leaves, "leaf")
	return l
}

func (l *anyLog) grow(n int, text string) {
	for range n {
		h := sha256.Sum256(fmt.Appendf([]byte{0}, "%s %d", text, len(l.leaves)))
		l.leaves = append(l.leaves, h[:])
	}
}

// cut gives the log with its first leaves alone.
func (l *anyLog) cut(n int) *anyLog {
	return &anyLog{origin: l.origin, private: l.private, leaves: l.leaves[:n:n]}
}

func keyID(name string, material []byte) []byte {
	h := sha256.Sum256(append([]byte(name+"\n"), material...))
	return h[:4]
}

func (l *anyLog) material() []byte {
	return append([]byte{1}, l.private.Public().(ed25519.PublicKey)...)
}

func (l *anyLog) vkey() string {
	return fmt.Sprintf("%s+%x+%s", l.origin, keyID(l.origin, l.material()), base64.StdEncoding.EncodeToString(l.material()))
}

func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

// root is RFC 6962 §2.1.
func root(leaves [][]byte) []byte {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := split(len(leaves))
	h := sha256.Sum256(append(append([]byte{1}, root(leaves[:k])...), root(leaves[k:])...))
	return h[:]
}

// proof is SUBPROOF of RFC 6962 §2.1.2.
func proof(m int, leaves [][]byte, whole bool) [][]byte {
	if m == len(leaves) {
		if whole {
			return nil
		}
		return [][]byte{root(leaves)}
	}
	k := split(len(leaves))
	if m > k {
		return append(proof(m-k, leaves[k:], false), root(leaves[:k]))
	}
	return append(proof(m, leaves[:k], whole), root(leaves[k:]))
}

func (l *anyLog) text(size int) string {
	return fmt.Sprintf("%s\n%d\n%s\n", l.origin, size, base64.StdEncoding.EncodeToString(root(l.leaves[:size])))
}

func (l *anyLog) checkpoint(size int) string {
	text := l.text(size)
	sig := append(keyID(l.origin, l.material()), ed25519.Sign(l.private, []byte(text))...)
	return text + "\n— " + l.origin + " " + base64.StdEncoding.EncodeToString(sig) + "\n"
}

func (l *anyLog) request(old, size int) string {
	body := fmt.Sprintf("old %d\n", old)
	if old > 0 {
		for _, h := range proof(old, l.leaves[:size], true) {
			body += base64.StdEncoding.EncodeToString(h) + "\n"
		}
	}
	return body + "\n" + l.checkpoint(size)
}

var verifierLine = regexp.MustCompile(`(?m)^verifier key  ([^+]+)\+([0-9a-f]{8})\+(\S+)$`)

// startWitness runs agentidp audit witness in a folder.
func startWitness(t *testing.T, dir string, args ...string) *server {
	t.Helper()
	s := &server{exited: make(chan struct{})}
	args = append([]string{"audit", "witness", "--listen", "127.0.0.1:0", "--key", filepath.Join(dir, "key"), "--state", filepath.Join(dir, "state")}, args...)
	s.cmd = command(context.WithoutCancel(t.Context()), t, dir, nil, args...)
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.exited)
		_ = s.cmd.Wait() // the state is read from ProcessState
	}()
	t.Cleanup(func() {
		if !s.over() {
			s.stop(t)
		}
	})
	waitFor(t, "the witness's address", func() bool {
		if s.over() {
			t.Fatalf("the witness ended with %d:\n%s%s", s.cmd.ProcessState.ExitCode(), s.stdout.String(), s.stderr.String())
		}
		return listensLine.MatchString(s.stderr.String()) && verifierLine.MatchString(s.stderr.String())
	})
	s.address = listensLine.FindStringSubmatch(s.stderr.String())[1]
	return s
}

func (s *server) submit(body string) (status int, answer string, err error) {
	resp, err := http.Post("http://"+s.address+"/add-checkpoint", "text/plain", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// The cosignature is verified by hand, with the key that the command printed.
func TestAWitnessCosigns(t *testing.T) {
	dir := t.TempDir()
	l := newAnyLog(t, 20)
	s := startWitness(t, dir, "--name", "w.example/1", "--log", l.vkey())
	printed := verifierLine.FindStringSubmatch(s.stderr.String())
	status, answer, err := s.submit(l.request(0, 7))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d %s, %v", status, answer, err)
	}
	material, err := base64.StdEncoding.DecodeString(printed[3])
	if err != nil || len(material) != 33 || material[0] != 4 || printed[1] != "w.example/1" || printed[2] != fmt.Sprintf("%x", keyID("w.example/1", material)) {
		t.Fatalf("the verifier key: %q, %v", printed, err)
	}
	encoded, _ := strings.CutPrefix(answer, "— w.example/1 ")
	sig, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil || len(sig) != 76 || string(sig[:4]) != string(keyID("w.example/1", material)) {
		t.Fatalf("the answer %q: %v", answer, err)
	}
	seconds := 0
	for _, b := range sig[4:12] {
		seconds = seconds<<8 | int(b)
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", seconds, l.text(7))
	if !ed25519.Verify(material[1:], []byte(message), sig[12:]) {
		t.Error("the cosignature does not verify")
	}
	s.stop(t)
	again := startWitness(t, dir, "--log", l.vkey())
	if got := verifierLine.FindStringSubmatch(again.stderr.String()); got[0] != printed[0] {
		t.Errorf("after a restart it is %s, before it was %s", got[0], printed[0])
	}
	if status, answer, err := again.submit(l.request(7, 20)); err != nil || status != http.StatusOK {
		t.Errorf("after a restart: %d %s, %v", status, answer, err)
	}
	// The line is written after the answer.
	waitFor(t, "the log line", func() bool { return strings.HasSuffix(again.stdout.String(), "\n") })
	var line struct{ Level, Msg, Log string }
	if err := json.Unmarshal([]byte(strings.TrimSpace(again.stdout.String())), &line); err != nil || line.Level != "INFO" || line.Log != l.origin {
		t.Errorf("the log line %q: %v", again.stdout.String(), err)
	}
}

// TestAWitnessThatIsKilledForgetsNothing kills it under load: whatever it signed, it
// knows when it is back.
func TestAWitnessThatIsKilledForgetsNothing(t *testing.T) {
	dir := t.TempDir()
	l := newAnyLog(t, 2000)
	args := []string{"--name", "w", "--log", l.vkey()}
	signed := 0
	for round := range 5 {
		s := startWitness(t, dir, args...)
		// Asked with a size that it did not sign last, it says the one it did.
		status, answer, err := s.submit(l.request(2000, 2000))
		known, errSize := strconv.Atoi(strings.TrimSpace(answer))
		if err != nil || errSize != nil || status != http.StatusConflict || known < signed {
			t.Fatalf("round %d: it signed %d and says %d %q, %v", round, signed, status, answer, err)
		}
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for old := known; old < len(l.leaves); old++ {
				status, _, err := s.submit(l.request(old, old+1))
				if err != nil || status != http.StatusOK {
					return
				}
				signed = old + 1
			}
		}()
		lines := 20 * (round + 1)
		waitFor(t, "some cosignatures", func() bool { return strings.Count(s.stdout.String(), `"status":200`) >= lines })
		s.kill(t)
		<-stopped
	}
	if signed < 100 {
		t.Errorf("only %d checkpoints were signed", signed)
	}
}

// serveLog serves a log as the product does.
func serveLog(t *testing.T, l **anyLog) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /audit/checkpoint", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, (*l).checkpoint(len((*l).leaves)))
	})
	mux.HandleFunc("GET /audit/consistency", func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.FormValue("from"))
		to, _ := strconv.Atoi(r.FormValue("to"))
		_ = json.NewEncoder(w).Encode(map[string]any{"from": from, "to": to, "hashes": proof(from, (*l).leaves[:to], true)})
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

// TestALogIsLookedAtOnce checks the exit codes that scripts go by.
func TestALogIsLookedAtOnce(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	l := newAnyLog(t, 10)
	current := l
	url := serveLog(t, &current)
	look := func(want int, says string) {
		t.Helper()
		r := run(t, "", nil, "audit", "witness", "--once", "--state", state, "--log", l.vkey(), "--watch", url)
		if r.code != want {
			t.Errorf("exit code %d, want %d\n%s%s", r.code, want, r.stdout, r.stderr)
		}
		contains(t, r.stdout+r.stderr, says)
	}
	look(0, `"size":10`)
	l.grow(90, "leaf")
	look(0, `"size":100`)
	current = l.cut(99)
	look(2, "the log was cut")
	current.grow(10, "forged")
	look(2, "the log was forked")
	current = newAnyLog(t, 200) // with another key
	look(1, "opening a checkpoint")
	url = "http://127.0.0.1:1"
	look(1, "refused")
	url = "https://169.254.169.254"
	look(1, "--watch")
}

// A running witness watches, and says what it sees at once.
func TestAWitnessWatchesALogThatDoesNotKnowOfIt(t *testing.T) {
	dir := t.TempDir()
	l := newAnyLog(t, 10)
	forked := l.cut(5)
	forked.grow(5, "forged")
	current := forked
	s := startWitness(t, dir, "--name", "w", "--log", l.vkey(), "--watch", serveLog(t, &current))
	waitFor(t, "the first look", func() bool { return strings.Contains(s.stdout.String(), "grew out of all that was seen") })
	if status, _, err := s.submit(l.request(0, 10)); err != nil || status != http.StatusOK {
		t.Fatalf("%d, %v", status, err)
	}
	s.stop(t)
	s = startWitness(t, dir, "--log", l.vkey(), "--watch", serveLog(t, &current), "--every", "1s")
	waitFor(t, "the scream", func() bool { return strings.Contains(s.stdout.String(), `"level":"ERROR"`) })
	contains(t, s.stdout.String(), "the log contradicts what it had shown", `"known":"log.example/audit\n10\n`, `"shown":"log.example/audit\n10\n`)
}

func TestAWitnessIsToldWhatItLacks(t *testing.T) {
	l := newAnyLog(t, 1)
	dir := t.TempDir()
	at := []string{"audit", "witness", "--key", filepath.Join(dir, "key"), "--state", filepath.Join(dir, "state")}
	fails(t, "", nil, []string{"--log: say whose log"}, at...)
	fails(t, "", nil, []string{"needs a name"}, append(at, "--log", l.vkey())...)
	fails(t, "", nil, []string{"not the verifier key of a log"}, append(at, "--log", "x", "--name", "w")...)
	fails(t, "", nil, []string{"two keys of logs have the origin"}, append(at, "--log", l.vkey(), "--log", l.vkey(), "--name", "w")...)
	fails(t, "", nil, []string{"--listen"}, append(at, "--log", l.vkey(), "--name", "w", "--listen", "nowhere")...)
	fails(t, "", nil, []string{"--watch"}, append(at, "--log", l.vkey(), "--watch", "http://idp.example.com")...)
	fails(t, "", nil, []string{"--allow"}, append(at, "--log", l.vkey(), "--allow", "10.0.0.0")...)
	fails(t, "", nil, []string{"--every"}, append(at, "--log", l.vkey(), "--every", "1ms")...)
	fails(t, "", nil, []string{"with --watch"}, append(at, "--once", "--log", l.vkey())...)
	if err := os.Remove(filepath.Join(dir, "state")); err != nil {
		t.Fatal(err)
	}
	fails(t, "", nil, []string{"forgot what it signed"}, append(at, "--log", l.vkey())...)
	s := startWitness(t, t.TempDir(), "--name", "w", "--log", l.vkey())
	s.signal(t, syscall.SIGINT)
	s.wait(t)
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("after SIGINT the exit code is %d", code)
	}
}
