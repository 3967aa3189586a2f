package httpd_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/httpd"
)

func works(context.Context) error { return nil }

func fails(context.Context) error { return errors.New("dial PROBEMARKER: connection refused") }

type healthBody struct {
	Status, Version string
	Checks          map[string]struct{ Status string }
}

// Health says how it stands, and why only to the log (R39).
func TestHealthTellsHowTheDependenciesStand(t *testing.T) {
	required := func(p func(context.Context) error) httpd.Check { return httpd.Check{Name: "database", Probe: p} }
	optional := func(p func(context.Context) error) httpd.Check {
		return httpd.Check{Name: "policy", Probe: p, Optional: true}
	}
	for name, c := range map[string]struct {
		checks []httpd.Check
		drain  bool
		status string
		code   int
		each   map[string]string
	}{
		"no dependencies": {nil, false, "ok", 200, nil},
		"all work":        {[]httpd.Check{required(works), optional(works)}, false, "ok", 200, map[string]string{"database": "ok", "policy": "ok"}},
		"an optional one fails": {
			[]httpd.Check{required(works), optional(fails)},
			false, "degraded", 200,
			map[string]string{"database": "ok", "policy": "unavailable"},
		},
		"a required one fails": {
			[]httpd.Check{required(fails), optional(works)},
			false, "unavailable", 503,
			map[string]string{"database": "unavailable", "policy": "ok"},
		},
		"both fail": {
			[]httpd.Check{required(fails), optional(fails)},
			false, "unavailable", 503,
			map[string]string{"database": "unavailable", "policy": "unavailable"},
		},
		"both fail, the optional one first": {
			[]httpd.Check{optional(fails), required(fails)},
			false, "unavailable", 503,
			map[string]string{"database": "unavailable", "policy": "unavailable"},
		},
		"two optional ones fail": {
			[]httpd.Check{optional(fails), {Name: "mail", Probe: fails, Optional: true}},
			false, "degraded", 200,
			map[string]string{"policy": "unavailable", "mail": "unavailable"},
		},
		"draining": {[]httpd.Check{required(works)}, true, "unavailable", 503, map[string]string{"database": "ok"}},
	} {
		t.Run(name, func(t *testing.T) {
			var log buffer
			health := httpd.NewHealth("1.2.3", c.checks...)
			if c.drain {
				health.Drain()
			}
			h := httpd.Chain(config(&log), httpd.Router(health.Routes()))
			w := ask(h, "GET", "/health")
			var got healthBody
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatalf("%s: %v", w.Body, err)
			}
			if w.Code != c.code || got.Status != c.status || got.Version != "1.2.3" || len(got.Checks) != len(c.each) {
				t.Errorf("/health: %d %s, want %d and %s", w.Code, w.Body, c.code, c.status)
			}
			for check, want := range c.each {
				if got.Checks[check].Status != want {
					t.Errorf("%s is %q, want %q", check, got.Checks[check].Status, want)
				}
			}
			ready := ask(h, "GET", "/health/ready")
			if want := `{"status":"` + c.status + `"}`; ready.Code != c.code || ready.Body.String() != want {
				t.Errorf("/health/ready: %d %s, want %d %s", ready.Code, ready.Body, c.code, want)
			}
			if live := ask(h, "GET", "/health/live"); live.Code != http.StatusOK || live.Body.String() != `{"status":"ok"}` {
				t.Errorf("/health/live: %d %s, want 200: who cannot serve need not be restarted", live.Code, live.Body)
			}
		})
	}
}

func TestWhyAProbeFailedIsForTheLogAlone(t *testing.T) {
	var log buffer
	health := httpd.NewHealth("1", httpd.Check{Name: "database", Probe: fails})
	w := ask(httpd.Chain(config(&log), httpd.Router(health.Routes())), "GET", "/health")
	if strings.Contains(w.Body.String(), "PROBEMARKER") {
		t.Errorf("the body tells why: %s", w.Body)
	}
	if why, _ := log.only(t)["check.database"].(string); !strings.Contains(why, "PROBEMARKER") {
		t.Errorf("the log does not tell why: %s", log.String())
	}
}

// A probe runs on a goroutine of its own, where nothing else would catch it (R38).
func TestAProbeThatPanicsIsADependencyThatDoesNotWork(t *testing.T) {
	var log buffer
	panics := func(context.Context) error { panic("PROBEMARKER") }
	health := httpd.NewHealth("1", httpd.Check{Name: "database", Probe: panics}, httpd.Check{Name: "policy", Probe: works})
	w := ask(httpd.Chain(config(&log), httpd.Router(health.Routes())), "GET", "/health")
	want := `{"status":"unavailable","version":"1","checks":{"database":{"status":"unavailable"},"policy":{"status":"ok"}}}`
	if w.Code != http.StatusServiceUnavailable || w.Body.String() != want {
		t.Errorf("%d %s, want 503 %s", w.Code, w.Body, want)
	}
	why, _ := log.only(t)["check.database"].(string)
	if !strings.Contains(why, "PROBEMARKER") || !strings.Contains(why, "health_test.go") {
		t.Errorf("the log does not tell what panicked, and where: %s", log.String())
	}
}

func TestProbesRunAtOnceAndAreBoundedInTime(t *testing.T) {
	met := make(chan struct{})
	meet := func(send bool) func(context.Context) error {
		return func(ctx context.Context) error {
			if _, bounded := ctx.Deadline(); !bounded {
				return errors.New("there is no deadline")
			}
			// Each waits for the other: one after the other would never end.
			if send {
				select {
				case met <- struct{}{}:
				case <-ctx.Done():
				}
				return ctx.Err()
			}
			select {
			case <-met:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	}
	health := httpd.NewHealth("1", httpd.Check{Name: "a", Probe: meet(true)}, httpd.Check{Name: "b", Probe: meet(false)})
	if w := ask(httpd.Router(health.Routes()), "GET", "/health"); w.Code != http.StatusOK {
		t.Errorf("%d %s, want 200", w.Code, w.Body)
	}
}
