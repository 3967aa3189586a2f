package request_test

import (
	"log/slog"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
)

func TestTheContextCarriesTheInfo(t *testing.T) {
	info := &request.Info{ID: "one"}
	if got := request.From(request.With(t.Context(), info)); got != info {
		t.Errorf("From = %v, want what With put there", got)
	}
	inner := request.With(request.With(t.Context(), info), &request.Info{ID: "two"})
	if got := request.From(inner).ID; got != "two" {
		t.Errorf("From = %q, want the innermost", got)
	}
}

func TestWithoutARequestThereIsAnEmptyInfoOfOnesOwn(t *testing.T) {
	request.Note(t.Context(), slog.String("lost", "yes"))
	got := request.From(t.Context())
	if got == nil || got.ID != "" || got.SourceIP() != "" || len(got.Attrs()) != 0 {
		t.Errorf("From = %+v, want an empty one", got)
	}
}

// The log line is put together by all who handle the request (R39).
func TestNotesOfManyGoroutinesAreAllKept(t *testing.T) {
	info := &request.Info{}
	ctx := request.With(t.Context(), info)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			request.Note(ctx, slog.Int(strconv.Itoa(i), i), slog.Bool("again", true))
			_ = info.Attrs()
		})
	}
	wg.Wait()
	if n := len(info.Attrs()); n != 40 {
		t.Errorf("%d notes were kept, want 40", n)
	}
}

func TestNotesKeepTheirOrderAndAreHandedOutAsACopy(t *testing.T) {
	info := &request.Info{}
	ctx := request.With(t.Context(), info)
	request.Note(ctx, slog.String("a", "1"), slog.String("b", "2"))
	request.Note(ctx, slog.String("c", "3"))
	attrs := info.Attrs()
	if len(attrs) != 3 || attrs[0].Key != "a" || attrs[2].Key != "c" {
		t.Fatalf("Attrs = %v, want a, b, c", attrs)
	}
	attrs[0] = slog.String("changed", "")
	if got := info.Attrs()[0].Key; got != "a" {
		t.Errorf("changing what Attrs gave changed the info: %q", got)
	}
}

func TestTheOriginIsAnonymousUntilSomebodyIsAuthenticated(t *testing.T) {
	ctx := request.With(t.Context(), &request.Info{ID: "one", Source: netip.MustParseAddr("2001:db8::1")})
	want := audit.Origin{Actor: audit.Actor{Type: audit.TypeAnonymous}, RequestID: "one", SourceIP: "2001:db8::1"}
	if got := request.Origin(ctx); got != want {
		t.Errorf("Origin = %+v, want %+v", got, want)
	}
	if got := request.Origin(t.Context()); got.Actor.Type != audit.TypeAnonymous || got.RequestID != "" || got.SourceIP != "" {
		t.Errorf("Origin without a request = %+v", got)
	}
}
