package app_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
)

// hot is a server without its listener, and one agent.
type hot struct {
	handler    http.Handler
	id, secret string
}

func newHot(t testing.TB) *hot {
	t.Helper()
	cfg, err := config.Load(config.Sources{Environ: []string{"DATA_DIR=" + t.TempDir(), "SECRET_HASHER=hmac", "RATE_LIMIT_SOURCE=100000000", "RATE_LIMIT_CLIENT=100000000"}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.Open(t.Context(), cfg, slog.New(slog.NewJSONHandler(io.Discard, nil)), time.Now) //nolint:sloglint // the line is part of what a request costs
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	admin, _, err := a.BootstrapEmpty(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &hot{handler: a.Serving(t, "http://localhost"), id: admin.AgentID.String(), secret: admin.Secret.Value().Reveal()}
}

// post gives what asks an OAuth endpoint, as often as it is called.
func (h *hot) post(t testing.TB, path string, form url.Values) func() string {
	body, basic := form.Encode(), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	made := httptest.NewRequest(http.MethodPost, path, nil)
	made.SetBasicAuth(h.id, h.secret)
	basic.Set("Authorization", made.Header.Get("Authorization"))
	return func() string {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
		r.Header = basic
		w := httptest.NewRecorder()
		h.handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		return w.Body.String()
	}
}

// TestATokenAndAnIntrospectionKeepToTheirAllocations counts what is the same on every
// machine (R41): all that the server does for a lone caller, the transaction with it. A
// change that needs more has to say why.
func TestATokenAndAnIntrospectionKeepToTheirAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates, too")
	}
	h := newHot(t)
	token := url.Values{"grant_type": {"client_credentials"}, "scope": {"agents:read"}}
	ask := h.post(t, "/oauth2/token", token)
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(ask()), &answer); err != nil {
		t.Fatal(err)
	}
	for path, c := range map[string]struct {
		budget float64
		form   url.Values
	}{
		"/oauth2/token":      {250, token},
		"/oauth2/introspect": {90, url.Values{"token": {answer.Token}}},
	} {
		ask := h.post(t, path, c.form)
		// What the test itself makes is taken off.
		if made := testing.AllocsPerRun(200, func() { ask() }) - h.own(t, path, c.form); made > c.budget {
			t.Errorf("%s makes %.0f allocations, its budget is %.0f", path, made, c.budget)
		}
	}
}

// own is how many allocations the request and its answer take without the server.
func (h *hot) own(t testing.TB, path string, form url.Values) float64 {
	nothing := &hot{handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(nil) }), id: h.id, secret: h.secret}
	ask := nothing.post(t, path, form)
	return testing.AllocsPerRun(200, func() { ask() })
}

func BenchmarkToken(b *testing.B) {
	ask := newHot(b).post(b, "/oauth2/token", url.Values{"grant_type": {"client_credentials"}, "scope": {"agents:read"}})
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ask()
		}
	})
}
