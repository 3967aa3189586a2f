package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait: it is reached only when something hangs.
const patience = 60 * time.Second

// binary is the path of the built agentidp.
var binary string

// TestMain builds the binary once.
func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "agentidp-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "agentidp")
	args := []string{"build", "-o", binary}
	if coverDir() != "" {
		args = append(args, "-cover", "-covermode=atomic", "-coverpkg=./internal/...,./cmd/...")
	}
	build := exec.Command("go", append(args, "./cmd/agentidp")...)
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building agentidp: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

func coverDir() string {
	dir := os.Getenv("E2E_COVERDIR")
	if dir == "" {
		return ""
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		panic(err)
	}
	if err := os.MkdirAll(abs, 0o750); err != nil {
		panic(err)
	}
	return abs
}

// command prepares the binary in an empty folder and an empty environment, so
// that neither settings nor files of the machine reach it.
func command(ctx context.Context, t *testing.T, dataDir string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "PORT=0", "DATA_DIR=" + dataDir}
	if dir := coverDir(); dir != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+dir)
	}
	cmd.Env = append(cmd.Env, env...) // the last one of a name counts
	return cmd
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command to its end.
func run(t *testing.T, dataDir string, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := command(ctx, t, dataDir, env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("agentidp %s did not end\n%s%s", strings.Join(args, " "), &stdout, &stderr)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("agentidp %s: %v", strings.Join(args, " "), err)
	}
	return result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// mustRun is run for what must succeed.
func mustRun(t *testing.T, dataDir string, env []string, args ...string) result {
	t.Helper()
	r := run(t, dataDir, env, args...)
	if r.code != 0 {
		t.Fatalf("agentidp %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r
}

// output collects what a process prints while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write collects.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String gives all there is so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// from gives what there is so far, but for the first n bytes.
func (o *output) from(n int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.text.Bytes()[n:])
}

// credential is what a client authenticates with.
type credential struct {
	ID           string `json:"id"`
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
}

// server is a running agentidp serve.
type server struct {
	api
	issuer         string
	address        string
	dataDir        string
	stdout, stderr output
	cmd            *exec.Cmd
	exited         chan struct{}
}

var (
	listensLine = regexp.MustCompile(`(?m)^agentidp \S+ listens on (\S+)$`)
	issuerLine  = regexp.MustCompile(`(?m)^issuer +(\S+)$`)
	clientLine  = regexp.MustCompile(`(?m)^\{"clientId":.*\}$`)
)

// start runs the server and waits until it serves. It is stopped when the
// test ends.
func start(t *testing.T, dataDir string, env ...string) *server {
	t.Helper()
	s := &server{dataDir: dataDir, exited: make(chan struct{})}
	s.cmd = command(context.WithoutCancel(t.Context()), t, dataDir, env, "serve")
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
	waitFor(t, "the server's address", func() bool {
		if s.over() {
			t.Fatalf("the server ended with %d:\n%s%s", s.cmd.ProcessState.ExitCode(), s.stdout.String(), s.stderr.String())
		}
		return listensLine.MatchString(s.stderr.String()) && issuerLine.MatchString(s.stderr.String())
	})
	s.address = listensLine.FindStringSubmatch(s.stderr.String())[1]
	s.issuer = issuerLine.FindStringSubmatch(s.stderr.String())[1]
	s.api = newAPI("http://" + s.address)
	t.Cleanup(s.http.CloseIdleConnections)
	// It listens before it has an admin agent; whoever connects waits so long.
	s.mustCall(t, http.MethodGet, "/health/live", "", nil, http.StatusOK)
	return s
}

// first gives the credential that the server printed because its database was
// empty.
func (s *server) first(t *testing.T) credential {
	t.Helper()
	waitFor(t, "the first credential", func() bool { return clientLine.MatchString(s.stderr.String()) })
	return readCredential(t, s.stderr.String())
}

func readCredential(t *testing.T, text string) credential {
	t.Helper()
	var c credential
	if err := json.Unmarshal([]byte(clientLine.FindString(text)), &c); err != nil || c.ClientID == "" || c.ClientSecret == "" {
		t.Fatalf("no credential in %q: %v", text, err)
	}
	return c
}

func (s *server) over() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// stop asks the server to end, and expects it to end well.
func (s *server) stop(t *testing.T) {
	t.Helper()
	s.signal(t, syscall.SIGTERM)
	s.wait(t)
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("after SIGTERM the exit code is %d, want 0\n%s", code, s.stderr.String())
	}
}

func (s *server) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Errorf("sending %s: %v", sig, err)
	}
}

// kill ends the server as a crash would.
func (s *server) kill(t *testing.T) {
	t.Helper()
	s.signal(t, syscall.SIGKILL)
	s.wait(t)
}

func (s *server) wait(t *testing.T) {
	t.Helper()
	select {
	case <-s.exited:
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		<-s.exited
		t.Errorf("the server did not end within %s", patience)
	}
}

// waitFor polls until a condition holds.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			t.Fatalf("waiting for %s: still not there after %s", what, patience)
		case <-tick.C:
		}
	}
}
