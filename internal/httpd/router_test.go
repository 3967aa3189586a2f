package httpd_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/httpd"
)

func TestWhatIsNotServedIsNotFoundInTheShapeOfTheAPI(t *testing.T) {
	for _, target := range []string{
		"/", "/nothing", "/agents/17/nothing", "/agent", "/Agents", "/health/other",
		// Unclean paths are refused, not redirected: nobody gets two names for one thing.
		"//", "//agents", "/agents/", "/agents//17", "/agents/17/", "/./agents", "/nothing/../agents", "/agents/.", "/agents/..",
		"/agents/%2e%2e/agents", "/%2e/agents", "/agents/17%2F", "/%2Fagents", "/..",
		"*",
	} {
		for _, method := range []string{"GET", "POST", "BREW"} {
			w := ask(endpoints(), method, target)
			wantError(t, w, http.StatusNotFound, "NOT_FOUND")
			if w.Header().Get("Location") != "" {
				t.Errorf("%s %s is redirected to %q", method, target, w.Header().Get("Location"))
			}
		}
	}
	empty := ask(endpoints(), "GET", "/", func(r *http.Request) { r.URL.Path = "" })
	wantError(t, empty, http.StatusNotFound, "NOT_FOUND")
}

func TestAMethodAPathDoesNotTakeIsRefusedWithTheOnesItDoes(t *testing.T) {
	for _, c := range []struct{ method, target, allow string }{
		{"DELETE", "/agents", "GET, HEAD, POST"},
		{"OPTIONS", "/agents", "GET, HEAD, POST"},
		{"BREW", "/agents", "GET, HEAD, POST"},
		{"POST", "/agents/17", "DELETE, GET, HEAD"},
		{"POST", "/health", "GET, HEAD"},
	} {
		w := ask(endpoints(), c.method, c.target)
		wantError(t, w, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
		if got := w.Header().Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow = %q, want %q", c.method, c.target, got, c.allow)
		}
	}
}

func TestHEADIsNamedOnceWhereItHasARouteOfItsOwn(t *testing.T) {
	h := httpd.Router([]httpd.Route{
		{Method: http.MethodGet, Path: "/a", Handler: http.NotFoundHandler()},
		{Method: http.MethodHead, Path: "/a", Handler: http.NotFoundHandler()},
	})
	if got := ask(h, "POST", "/a").Header().Get("Allow"); got != "GET, HEAD" {
		t.Errorf("Allow = %q, want GET, HEAD", got)
	}
}

func TestRoutesAreToldApartByMethodAndPath(t *testing.T) {
	for _, c := range []struct{ method, target, body string }{
		{"GET", "/agents", "agents"},
		{"POST", "/agents", "created"},
		{"GET", "/agents?limit=1", "agents"},
		{"GET", "/agents/17", "agent"},
		{"DELETE", "/agents/17", "gone"},
		{"GET", "/agents/a%20b", "agent"},
	} {
		if w := ask(endpoints(), c.method, c.target); w.Code != http.StatusOK || w.Body.String() != c.body {
			t.Errorf("%s %s: %d %s, want %s", c.method, c.target, w.Code, w.Body, c.body)
		}
	}
}

func TestHEADWorksWhereGETDoes(t *testing.T) {
	srv := httptest.NewServer(endpoints())
	defer srv.Close()
	for target, status := range map[string]int{"/agents": 200, "/agents/17": 200, "/health": 200, "/nothing": 404} {
		resp, err := srv.Client().Head(srv.URL + target)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != status || len(body) != 0 {
			t.Errorf("HEAD %s: %d %q (%v), want %d and no body", target, resp.StatusCode, body, err, status)
		}
	}
}
