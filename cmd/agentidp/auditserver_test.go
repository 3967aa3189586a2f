package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/verify"
	"git.sentryagent.ai/sentryagent-idp/internal/verify/verifytest"
)

const (
	testClient = "3f1d8a52-6c1e-4b8e-9a56-0d3f4f1f9b11"
	testSecret = "sidp_a secret+with&signs"
	testBearer = "a.bearer.token"
)

func newTestLog(t *testing.T, n int) *verifytest.Log {
	t.Helper()
	l := verifytest.New(t, "log.example/audit")
	grow(l, n)
	return l
}

func grow(l *verifytest.Log, n int) *verifytest.Log {
	for range n {
		l.Append(audit.System("test").Event(time.Now(), uuid.Nil, audit.TokenIssued, audit.Target{Type: audit.TypeToken, ID: strconv.FormatInt(l.Size()+1, 10)}).Encode())
	}
	return l
}

func lines(l []string) string { return strings.Join(l, "\n") + "\n" }

// idp speaks the contract, of the log that it has at the moment.
type idp struct {
	*httptest.Server
	t      *testing.T
	mu     sync.Mutex
	log    *verifytest.Log
	hidden func(leaf int64) bool
	export func(w http.ResponseWriter, r *http.Request) // instead of the export
	broken string                                       // a path that answers 500
	asked  []string
	scope  string
}

func serve(t *testing.T, l *verifytest.Log) *idp {
	t.Helper()
	s := &idp{t: t, log: l}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth2/token", s.token)
	mux.HandleFunc("GET /audit/key", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s.log.Key+"\n") })
	mux.HandleFunc("GET /audit/checkpoint", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(s.log.Checkpoint(s.log.Size())) })
	mux.HandleFunc("GET /audit/consistency", func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.ParseInt(r.FormValue("from"), 10, 64)
		to, _ := strconv.ParseInt(r.FormValue("to"), 10, 64)
		proof, err := s.log.Consistency(from, to)
		if err != nil {
			http.Error(w, `{"code":"VALIDATION_ERROR"}`, http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(verify.Consistency{From: from, To: to, Hashes: proof})
	})
	mux.HandleFunc("GET /audit/export", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+testBearer {
			http.Error(w, `{"code":"AUTHENTICATION_REQUIRED"}`, http.StatusUnauthorized)
			return
		}
		if s.export != nil {
			s.export(w, r)
			return
		}
		_, _ = io.WriteString(w, lines(s.log.Lines(s.hidden)))
	})
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked = append(s.asked, r.URL.RequestURI())
		if r.URL.Path == s.broken {
			http.Error(w, `{"code":"INTERNAL"}`, http.StatusInternalServerError)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *idp) token(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if id, _ := url.QueryUnescape(user); id != testClient {
		http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
		return
	}
	if value, _ := url.QueryUnescape(password); value != testSecret {
		http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
		return
	}
	s.scope = r.FormValue("scope")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": testBearer, "token_type": "Bearer", "expires_in": 900, "scope": s.scope})
}

func (s *idp) sawPath(path string) bool {
	for _, uri := range s.asked {
		if strings.HasPrefix(uri, path) {
			return true
		}
	}
	return false
}

// runner runs commands as from a shell of its own.
type runner struct {
	t       *testing.T
	environ []string
	stdin   string
}

func newRunner(t *testing.T) *runner {
	t.Helper()
	return &runner{t: t, environ: []string{"XDG_STATE_HOME=" + t.TempDir(), "AGENTIDP_CLIENT_ID=" + testClient, "AGENTIDP_CLIENT_SECRET=" + testSecret}}
}

// run checks the exit code, and that standard output and error hold the texts.
func (r *runner) run(code int, says []string, args ...string) (stdout, stderr string) {
	r.t.Helper()
	var out, errs bytes.Buffer
	root := rootCommand(r.environ)
	root.SetArgs(append([]string{"audit"}, args...))
	root.SetIn(strings.NewReader(r.stdin))
	root.SetOut(&out)
	root.SetErr(&errs)
	err := root.ExecuteContext(r.t.Context())
	got := 0
	if err != nil {
		got = exitCode(err)
		fmt.Fprintln(&errs, "agentidp:", err)
	}
	if got != code {
		r.t.Fatalf("audit %v: exit code %d, want %d\n%s%s", args, got, code, &out, &errs)
	}
	for _, text := range says {
		if !strings.Contains(out.String()+errs.String(), text) {
			r.t.Errorf("audit %v does not say %q:\n%s%s", args, text, &out, &errs)
		}
	}
	if strings.Contains(out.String()+errs.String(), testSecret) || strings.Contains(out.String()+errs.String(), testBearer) {
		r.t.Errorf("audit %v gives a secret away:\n%s%s", args, &out, &errs)
	}
	if code != 0 && out.Len() > 0 {
		r.t.Errorf("audit %v failed, and says on standard output:\n%s", args, &out)
	}
	return out.String(), errs.String()
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func testToken() secret.Value { return secret.New(testBearer) }
