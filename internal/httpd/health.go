package httpd

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// probeTimeout bounds one probe of a dependency.
const probeTimeout = 2 * time.Second

// Check asks one dependency whether it works.
type Check struct {
	Name  string
	Probe func(ctx context.Context) error
	// Optional dependencies may be away: the service then is degraded, not down.
	Optional bool
}

// run probes. It has a goroutine of its own, where a panic would end the process;
// a dependency that cannot be asked is one that does not work.
func (c Check) run(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return c.Probe(ctx)
}

// Health serves the health endpoints.
type Health struct {
	version  string
	checks   []Check
	draining atomic.Bool
}

// NewHealth makes the health endpoints for the checks.
func NewHealth(version string, checks ...Check) *Health {
	return &Health{version: version, checks: checks}
}

// Drain makes the server not ready, so that balancers stop sending requests.
func (h *Health) Drain() { h.draining.Store(true) }

// The paths of the health endpoints.
const (
	fullPath  = "/health"
	livePath  = "/health/live"
	readyPath = "/health/ready"
)

// Routes lists the health endpoints.
func (h *Health) Routes() []Route {
	return []Route{
		{http.MethodGet, fullPath, http.HandlerFunc(h.full)},
		{http.MethodGet, livePath, http.HandlerFunc(h.live)},
		{http.MethodGet, readyPath, http.HandlerFunc(h.ready)},
	}
}

type healthView struct {
	Status  string               `json:"status"`
	Version string               `json:"version,omitempty"`
	Checks  map[string]checkView `json:"checks,omitempty"`
}

type checkView struct {
	Status string `json:"status"`
}

// The words for how it stands.
const (
	healthy     = "ok"
	degraded    = "degraded"
	unavailable = "unavailable"
)

func (h *Health) live(w http.ResponseWriter, r *http.Request) {
	wire.JSON(w, r, http.StatusOK, healthView{Status: healthy})
}

func (h *Health) ready(w http.ResponseWriter, r *http.Request) {
	view, status := h.probe(r.Context())
	wire.JSON(w, r, status, healthView{Status: view.Status})
}

func (h *Health) full(w http.ResponseWriter, r *http.Request) {
	view, status := h.probe(r.Context())
	wire.JSON(w, r, status, view)
}

// probe asks all dependencies at once. Why one does not work is for the log.
func (h *Health) probe(ctx context.Context) (healthView, int) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	errs := make([]error, len(h.checks))
	var wg sync.WaitGroup
	for i, c := range h.checks {
		wg.Go(func() { errs[i] = c.run(ctx) })
	}
	wg.Wait()
	view := healthView{Status: healthy, Version: h.version, Checks: map[string]checkView{}}
	for i, c := range h.checks {
		one := checkView{Status: healthy}
		if errs[i] != nil {
			request.Note(ctx, slog.String("check."+c.Name, errs[i].Error()))
			one.Status = unavailable
			if c.Optional && view.Status == healthy {
				view.Status = degraded
			} else if !c.Optional {
				view.Status = unavailable
			}
		}
		view.Checks[c.Name] = one
	}
	if h.draining.Load() {
		view.Status = unavailable
	}
	if view.Status == unavailable {
		return view, http.StatusServiceUnavailable
	}
	return view, http.StatusOK
}
