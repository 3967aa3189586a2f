package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/porttest"
)

// patience bounds the start; it is reached only when something hangs.
const patience = 30 * time.Second

// Missing says what to install where there is no Redis.
const Missing = "Redis is missing: install it (Debian: apt-get install redis-server) or put redis-server on PATH"

// Server is a running Redis.
type Server struct {
	Port int

	args   []string
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
}

// Start starts a Redis that ends with the test. Options are added to its command
// line.
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	port := freePort(t)
	return start(t, port, append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir()}, options...))
}

func start(t testing.TB, port int, args []string) *Server {
	t.Helper()
	s := &Server{Port: port, args: args}
	s.Run(t)
	t.Cleanup(s.Kill)
	return s
}

func freePort(t testing.TB) int {
	t.Helper()
	port, err := porttest.Free()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Run starts the server, again after Kill. It remembers nothing of before.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal(Missing)
	}
	var out strings.Builder
	s.cmd = exec.Command(path, s.args...) //nolint:gosec,noctx // the server of the tests
	s.cmd.Stdout, s.cmd.Stderr = &out, &out
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	s.exited = exited
	go func() {
		defer close(exited)
		_ = s.cmd.Wait()
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		if answer, err := s.Do("PING"); err == nil && answer == "+PONG" {
			return
		}
		select {
		case <-tick.C:
		case <-exited:
			t.Fatalf("Redis ended:\n%s", out.String())
		case <-late:
			t.Fatal("Redis does not answer")
		}
	}
}

// Kill ends the server as a power cut would.
func (s *Server) Kill() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	<-s.exited
}

// Freeze lets the server neither answer nor refuse until Thaw.
func (s *Server) Freeze() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (s *Server) Thaw() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// URL is that of the server.
func (s *Server) URL() string { return "redis://127.0.0.1:" + strconv.Itoa(s.Port) }

// Do sends a command, words separated by blanks, and gives the lines of the answer
// as Redis sends them, separated by blanks. It fails where Redis does not answer.
func (s *Server) Do(command string) (string, error) {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(s.Port), patience) //nolint:noctx // bounded by its timeout
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "%s\r\nQUIT\r\n", command); err != nil {
		return "", err
	}
	// A sentinel does not know QUIT, but ends when nothing more can come.
	if half, ok := conn.(*net.TCPConn); ok {
		if err := half.CloseWrite(); err != nil {
			return "", err
		}
	}
	var lines []string
	for scanner := bufio.NewScanner(conn); scanner.Scan(); {
		lines = append(lines, scanner.Text())
	}
	if len(lines) < 2 {
		return "", errors.New("redis did not answer")
	}
	return strings.Join(lines[:len(lines)-1], " "), nil
}

// Until asks again and again until the answer ends as wanted.
func (s *Server) Until(t testing.TB, command, want string) {
	t.Helper()
	s.until(t, command, want, strings.HasSuffix)
}

// UntilHas asks again and again until what is wanted is in the answer.
func (s *Server) UntilHas(t testing.TB, command, want string) {
	t.Helper()
	s.until(t, command, want, strings.Contains)
}

func (s *Server) until(t testing.TB, command, want string, met func(answer, want string) bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); ; {
		answer, err := s.Do(command)
		if err == nil && met(answer, want) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s answers %q, %v, want %q", command, answer, err, want)
		}
	}
}
