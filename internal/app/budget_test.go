package app_test

import (
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
	a, err := app.Open(t.Context(), cfg, slog.New(slog.NewJSONHandler(io.Discard, nil)), time.Now)
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
