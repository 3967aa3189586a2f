package apptest

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look at and meddle with a database behind the server's back

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
)

// Clock is the present time moved by what a test adds.
type Clock struct{ offset atomic.Int64 }

// Now gives the time.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

// Add moves the clock.
func (c *Clock) Add(d time.Duration) { c.offset.Add(int64(d)) }

// Logs is what a server logged. It is safe for concurrent use.
type Logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends to the logs.
func (l *Logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String gives all that was logged.
func (l *Logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Server is a running product.
type Server struct {
	App      *app.App
	URL      string
	Dir      string
	Clock    *Clock
	Logs     *Logs
	Contract *Contract
	// AdminID and AdminSecret are those of the first admin agent.
	AdminID, AdminSecret string

	t    *testing.T
	http *http.Client
	stop func() error
}

// Start runs a server until the test ends. settings are as in the environment,
// "NAME=value"; the rate limits are off unless they say otherwise.
func Start(t *testing.T, contract *Contract, settings ...string) *Server {
	t.Helper()
	return StartIn(t, t.TempDir(), contract, settings...)
}

// StartIn is Start on a data directory that may hold data already.
func StartIn(t *testing.T, dir string, contract *Contract, settings ...string) *Server {
	t.Helper()
	environ := append([]string{"PORT=0", "DATA_DIR=" + dir, "RATE_LIMIT=off", "SECRET_HASHER=hmac", "LOG_LEVEL=debug"}, settings...)
	cfg, err := config.Load(config.Sources{Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, Dir: dir, Clock: &Clock{}, Logs: &Logs{}, Contract: contract}
	ctx, cancel := context.WithCancel(context.Background())
	s.App, err = app.Open(ctx, cfg, slog.New(slog.NewJSONHandler(s.Logs, &slog.HandlerOptions{Level: cfg.LogLevel})), s.Clock.Now)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	admin, made, err := s.App.BootstrapEmpty(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if made {
		s.AdminID, s.AdminSecret = admin.AgentID.String(), admin.Secret.Value().Reveal()
	}
	l, err := s.App.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.URL = "http://" + strings.Replace(l.Addr().String(), "127.0.0.1", "localhost", 1)
	s.http = &http.Client{Transport: contract.wrap(t, http.DefaultTransport.(*http.Transport).Clone()), Timeout: 30 * time.Second}
	done := make(chan error, 1)
	go func() { done <- s.App.Run(ctx, l, "test") }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		s.http.CloseIdleConnections()
		return <-done
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("the server ended with: %v", err)
		}
		_ = s.App.Close()
	})
	return s
}

// Stop drains and stops the server, as a signal would.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.stop(); err != nil {
		s.t.Fatalf("the server ended with: %v", err)
	}
	if err := s.App.Close(); err != nil {
		s.t.Fatalf("closing the database: %v", err)
	}
}

// Database is the path of the embedded database.
func (s *Server) Database() string { return filepath.Join(s.Dir, "agentidp.db") }

// OpenDatabase opens a database file beside the server that may be writing to it, and
// waits for that one's locks longer than any test may hold one up.
func OpenDatabase(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(120000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSON decodes the body.
func (a Answer) JSON(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.Body, &m); err != nil {
		t.Fatalf("the body is not a JSON object: %q", a.Body)
	}
	return m
}

// JSONBody is the body, or where that is lines of JSON, the list of them.
func (a Answer) JSONBody() []byte {
	if a.Header.Get("Content-Type") != ndjson {
		return a.Body
	}
	lines := bytes.Split(bytes.TrimSuffix(a.Body, []byte("\n")), []byte("\n"))
	return slices.Concat([]byte("["), bytes.Join(lines, []byte(",")), []byte("]"))
}

// Do sends a request as it is.
func (s *Server) Do(r *http.Request) Answer {
	s.t.Helper()
	resp, err := s.http.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}
}

// Call sends JSON, or nothing where body is empty, with a bearer token.
func (s *Server) Call(method, path, bearer, body string) Answer {
	s.t.Helper()
	r := s.request(method, path, body)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	return s.Do(r)
}

// Form posts a form, with Basic authentication where id is not empty.
func (s *Server) Form(path, id, secret string, form url.Values) Answer {
	s.t.Helper()
	r := s.request(http.MethodPost, path, form.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id != "" {
		r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	}
	return s.Do(r)
}

func (s *Server) request(method, path, body string) *http.Request {
	s.t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, content)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// Token gets a token that must be given.
func (s *Server) Token(id, secret, scope string) string {
	s.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}}
	if scope != "" {
		form.Set("scope", scope)
	}
	a := s.Form("/oauth2/token", id, secret, form)
	if a.Status != http.StatusOK {
		s.t.Fatalf("no token for %q: %d %s", scope, a.Status, a.Body)
	}
	token, _ := a.JSON(s.t)["access_token"].(string)
	return token
}

// AllScopes is every management scope, as a scope parameter.
const AllScopes = "agents:read agents:write credentials:write tokens:introspect tokens:revoke audit:read organizations:admin"

// Admin gets a token with every management scope.
func (s *Server) Admin() string {
	s.t.Helper()
	return s.Token(s.AdminID, s.AdminSecret, AllScopes)
}

// Agent is a registered agent and its first credential.
type Agent struct{ ID, Secret, CredentialID string }

// Register registers an agent with the capabilities; the name makes its email.
// query is appended to the path.
func (s *Server) Register(bearer, name, query string, capabilities ...string) Agent {
	s.t.Helper()
	list, err := json.Marshal(capabilities)
	if err != nil {
		s.t.Fatal(err)
	}
	a := s.Call(http.MethodPost, "/agents"+query, bearer, `{"email":"`+name+`@sentryagent.ai","agentType":"tester","version":"1.0.0","capabilities":`+
		string(list)+`,"owner":"tests","deploymentEnv":"development"}`)
	if a.Status != http.StatusCreated {
		s.t.Fatalf("registering %s: %d %s", name, a.Status, a.Body)
	}
	var made struct {
		ID         string
		Credential struct{ ID, ClientSecret string }
	}
	if err := json.Unmarshal(a.Body, &made); err != nil {
		s.t.Fatal(err)
	}
	return Agent{ID: made.ID, Secret: made.Credential.ClientSecret, CredentialID: made.Credential.ID}
}
