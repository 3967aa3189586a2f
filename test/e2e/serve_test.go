package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestServeBootstrapsOnce(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	admin := s.first(t)
	s.token(t, admin, management)
	s.stop(t)
	if n := strings.Count(s.stderr.String(), "sidp_"); n != 1 {
		t.Errorf("the secret is printed %d times:\n%s", n, s.stderr.String())
	}
	if len(logLines(t, s.stdout.String())) == 0 {
		t.Error("no request was logged")
	}
	s = start(t, dir)
	s.token(t, admin, management)
	s.stop(t)
	if text := s.stderr.String() + s.stdout.String(); strings.Contains(text, "sidp_") || clientLine.MatchString(text) {
		t.Errorf("the second start prints a credential:\n%s", text)
	}
}

func TestListensOnLoopbackAlone(t *testing.T) {
	s := start(t, t.TempDir())
	host, port, err := net.SplitHostPort(s.address)
	if err != nil || host != "127.0.0.1" {
		t.Fatalf("it listens on %s (%v), want 127.0.0.1", s.address, err)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		network, ok := addr.(*net.IPNet)
		if !ok || network.IP.IsLoopback() || network.IP.IsLinkLocalUnicast() {
			continue
		}
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(network.IP.String(), port), patience)
		if err == nil {
			_ = conn.Close()
			t.Errorf("%s answers, too", network.IP)
		}
	}
}

// TestRootSecretChanges walks through a change of JWT_SECRET.
func TestRootSecretChanges(t *testing.T) {
	dir := t.TempDir()
	before, after, issuer := hexSecret("0f1e2d3c"), hexSecret("4b5a6978"), "JWT_ISSUER=http://idp.test"
	s := start(t, dir, "JWT_SECRET="+before, issuer)
	admin := s.first(t)
	bearer := s.token(t, admin, management)
	idle := s.register(t, bearer, "idle").Credential // stays unused during the change
	s.stop(t)
	if _, err := os.Stat(filepath.Join(dir, "jwt-secret")); err == nil {
		t.Error("a root secret was made though one is given")
	}

	fails(t, dir, []string{"JWT_SECRET=" + after, issuer}, []string{"was JWT_SECRET changed without JWT_SECRET_PREVIOUS?"}, "serve")
	fails(t, dir, []string{"JWT_SECRET=" + after, issuer}, []string{"was JWT_SECRET changed without JWT_SECRET_PREVIOUS?"}, "keys", "list")

	s = start(t, dir, "JWT_SECRET="+after, "JWT_SECRET_PREVIOUS="+before, issuer)
	s.token(t, admin, management)
	holds(t, s, bearer)
	s.stop(t)

	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(after+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir, "JWT_SECRET_FILE="+file, issuer)
	s.token(t, admin, management)
	s.token(t, idle, "invoices:read")
	holds(t, s, bearer)
	s.stop(t)
	fails(t, dir, []string{"JWT_SECRET=" + before, issuer}, []string{"was JWT_SECRET changed"}, "serve")
}

// TestLookingMakesNothing uses the commands of an operator on a database that no
// server has begun to use, and from a folder that is not the server's (R43).
func TestLookingMakesNothing(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	database := "DATABASE_URL=sqlite:" + filepath.Join(dir, "agentidp.db")
	listed := mustRun(t, elsewhere, []string{database}, "keys", "list")
	if lines := strings.Count(listed.stdout, "\n"); lines != 1 || !strings.HasPrefix(listed.stdout, "KID ") {
		t.Errorf("keys list prints of no keys:\n%s", listed.stdout)
	}
	contains(t, listed.stderr, "no signing key", "serve")

	s := start(t, dir)
	s.token(t, s.first(t), management)
	says := []string{"JWT_SECRET", "DATA_DIR", "signing keys"}
	other := t.TempDir()
	for _, args := range [][]string{{"keys", "list"}, {"keys", "rotate"}, {"admin", "bootstrap", "--email", "second@example.com"}, {"serve"}} {
		fails(t, other, []string{database}, says, args...)
	}
	if made, err := os.ReadDir(other); err != nil || len(made) > 0 {
		t.Errorf("commands that were refused left %v (%v)", made, err)
	}
	if n := strings.Count(mustRun(t, dir, nil, "keys", "list").stdout, "signing"); n != 1 {
		t.Errorf("%d keys sign", n)
	}
}

func TestRotatingBeforeTheFirstStartMakesTheKeyThatSignsUntilThen(t *testing.T) {
	dir := t.TempDir()
	mustRun(t, dir, nil, "keys", "rotate", "--activate-in", "1h")
	s := start(t, dir)
	s.token(t, s.first(t), management)
	listed := mustRun(t, dir, nil, "keys", "list").stdout
	contains(t, listed, " signing ", " published ")
}

// TestAThiefOfTheSigningKeyIsShutOut takes the older keys away from a server that
// runs (R2).
func TestAThiefOfTheSigningKeyIsShutOut(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, "RATE_LIMIT=off")
	admin := s.first(t)
	old := s.token(t, admin, management)
	oldKID := kid(t, old)
	holds(t, s, old) // so that the server remembers it
	fails(t, dir, nil, []string{"activateIn must not be negative"}, "keys", "rotate", "--activate-in", "-48h")
	fails(t, dir, nil, []string{"--revoke-old", "--activate-in"}, "keys", "rotate", "--revoke-old", "--activate-in", "1h")
	out := mustRun(t, dir, nil, "keys", "rotate", "--revoke-old").stdout

	var fresh string
	waitFor(t, "the server to sign with the new key", func() bool {
		fresh = s.token(t, admin, management)
		return kid(t, fresh) != oldKID
	})
	contains(t, out, kid(t, fresh))
	s.mustCall(t, http.MethodGet, "/agents", old, nil, http.StatusUnauthorized)
	if active, err := s.active(fresh, old); err != nil || active {
		t.Errorf("a token of the old key: active=%t %v", active, err)
	}
	holds(t, s, fresh)
	if set := string(s.mustCall(t, http.MethodGet, "/.well-known/jwks.json", "", nil, http.StatusOK).body); strings.Contains(set, oldKID) || !strings.Contains(set, kid(t, fresh)) {
		t.Errorf("the key set is %s", set)
	}
	if line := lineWith(mustRun(t, dir, nil, "keys", "list").stdout, oldKID); !strings.Contains(line, " retired ") {
		t.Errorf("keys list says of the old key: %s", line)
	}
	events := string(s.mustCall(t, http.MethodGet, "/audit/events?action=key.rotated", fresh, nil, http.StatusOK).body)
	contains(t, events, `"revokedKeys":["`+oldKID+`"]`)
}

func holds(t *testing.T, s *server, bearer string) {
	t.Helper()
	if active, err := s.active(bearer, bearer); err != nil || !active {
		t.Errorf("a token from before the change: active=%t %v", active, err)
	}
}

// TestSIGTERMDrains stops the server while it reads the body of a request.
func TestSIGTERMDrains(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			s := start(t, t.TempDir())
			c := s.first(t)
			body := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.ClientID}, "client_secret": {c.ClientSecret}, "scope": {"agents:read"}}.Encode()
			conn, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			answers := bufio.NewReader(conn)
			// The server says 100 Continue when the endpoint begins to read.
			send(t, conn, fmt.Sprintf("POST /oauth2/token HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n", s.address, len(body)))
			if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
				t.Fatalf("%q %v, want 100 Continue", line, err)
			}
			if _, err := answers.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			s.signal(t, sig)
			waitFor(t, "the listener to close", func() bool {
				other, err := net.Dial("tcp", s.address)
				if err == nil {
					_ = other.Close()
				}
				return err != nil
			})
			if s.over() {
				t.Fatal("the server ended with a request under way")
			}
			send(t, conn, body)
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "access_token") {
				t.Errorf("the request under way: %d %s %v", resp.StatusCode, text, err)
			}
			s.wait(t)
			if code := s.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit code %d, want 0\n%s", code, s.stderr.String())
			}
		})
	}
}

// TestASecondSignalEndsTheDrain asks again while the server waits for balancers and requests.
func TestASecondSignalEndsTheDrain(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			s := start(t, t.TempDir(), "SHUTDOWN_DELAY=1m", "SHUTDOWN_TIMEOUT=10m")
			s.first(t)
			s.signal(t, sig)
			waitFor(t, "the server to say that it stops", func() bool {
				r, err := s.call(http.MethodGet, "/health/ready", "", nil)
				return err == nil && r.status == http.StatusServiceUnavailable
			})
			waitFor(t, "the server to end", func() bool {
				_ = s.cmd.Process.Signal(sig) // it may be over
				return s.over()
			})
			if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != sig {
				t.Errorf("it ended with %s, want by the signal", s.cmd.ProcessState)
			}
		})
	}
}

func send(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}
