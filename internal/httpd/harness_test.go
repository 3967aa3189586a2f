package httpd_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/httpd"
	"git.sentryagent.ai/sentryagent-idp/internal/limit"
)

// buffer is a log that several goroutines write and the test reads.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lines gives the log as what it says, one object per line.
func (b *buffer) lines(t *testing.T) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(b.String()) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("the log line %q is not JSON: %v", line, err)
		}
		lines = append(lines, one)
	}
	return lines
}

// only gives the log's single line.
func (b *buffer) only(t *testing.T) map[string]any {
	t.Helper()
	lines := b.lines(t)
	if len(lines) != 1 {
		t.Fatalf("the log has %d lines, want one per request:\n%s", len(lines), b)
	}
	return lines[0]
}

// ticker is a clock that moves one millisecond each time it is read.
func ticker() func() time.Time {
	var reads atomic.Int64
	return func() time.Time { return time.UnixMilli(1_700_000_000_000 + reads.Add(1)) }
}

// config is a middleware configuration without limits that logs to the buffer.
func config(log *buffer) httpd.Config {
	return httpd.Config{Logger: slog.New(slog.NewJSONHandler(log, nil)), Sources: limit.Off{}, Now: ticker()}
}

// endpoints are what the tests put behind the middleware.
func endpoints() http.Handler {
	text := func(s string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) })
	}
	routes := []httpd.Route{
		{Method: http.MethodGet, Path: "/agents", Handler: text("agents")},
		{Method: http.MethodPost, Path: "/agents", Handler: text("created")},
		{Method: http.MethodGet, Path: "/agents/{agentId}", Handler: text("agent")},
		{Method: http.MethodDelete, Path: "/agents/{agentId}", Handler: text("gone")},
		{Method: http.MethodGet, Path: "/panic", Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			panic("PANICMARKER")
		})},
		{Method: http.MethodGet, Path: "/abort", Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		})},
		{Method: http.MethodGet, Path: "/silent", Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})},
		{Method: http.MethodGet, Path: "/partial", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("half an answer"))
			panic("PANICMARKER")
		})},
	}
	return httpd.Router(append(routes, httpd.NewHealth("1.0").Routes()...))
}

// ask sends one request through the handler; edit may change it on the way.
func ask(h http.Handler, method, target string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	for _, e := range edit {
		e(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// header is an edit that adds values to a header, as a list of header lines.
func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
}

// from is an edit that sets the peer's address.
func from(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }

// wantError fails unless the answer is an error in the shape of the API (R33).
func wantError(t *testing.T, w *httptest.ResponseRecorder, status int, code string) {
	t.Helper()
	var body struct {
		Code, Message string
		Details       *map[string]any
	}
	if w.Code != status {
		t.Errorf("status %d, want %d (body %s)", w.Code, status, w.Body)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q, want application/json", got)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("the body %q is not JSON: %v", w.Body, err)
	}
	if body.Code != code || body.Message == "" || body.Details == nil {
		t.Errorf("body %s, want the code %s, a message and details", w.Body, code)
	}
}

// proxies parses networks.
func proxies(networks ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, n := range networks {
		all = append(all, netip.MustParsePrefix(n))
	}
	return all
}
