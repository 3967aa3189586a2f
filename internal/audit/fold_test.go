package audit_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

func denial(source string) audit.Event {
	return audit.Origin{Actor: audit.Actor{Type: audit.TypeAnonymous}, SourceIP: source}.
		Event(time.Now(), uuid.Nil, audit.TokenDenied, audit.Target{Type: audit.TypeRequest}).Deny("unknown_client")
}

func TestRepeatedDenialsBecomeACount(t *testing.T) {
	s := &fakeStore{}
	l := running(t, s, audit.Config{})
	f := audit.NewFolder(l, time.Now, slog.New(slog.DiscardHandler))
	for range 1000 {
		if err := f.Deny(t.Context(), denial("192.0.2.1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Deny(t.Context(), denial("192.0.2.2")); err != nil {
		t.Fatal(err)
	}
	f.Flush(t.Context(), true)
	bodies := s.bodies()
	if len(bodies) != 3 || !strings.Contains(strings.Join(bodies, ""), `"repeated":999`) {
		t.Errorf("1001 denials from two sources left %d events, want the two first ones and one that counts 999: %v", len(bodies), bodies)
	}
}

// bodies gives every event that was written, in canonical bytes.
func (f *fakeStore) bodies() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, b := range f.batches {
		for _, r := range b {
			all = append(all, string(r.Event.Encode()))
		}
	}
	return all
}

// TestHangingUpDoesNotDefeatTheFolding: who goes away before the first of a kind is
// durable must not make the next one a first one.
func TestHangingUpDoesNotDefeatTheFolding(t *testing.T) {
	s := &fakeStore{}
	f := audit.NewFolder(running(t, s, audit.Config{}), time.Now, slog.New(slog.DiscardHandler))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		_ = f.Deny(gone, denial("192.0.2.1")) // nobody is there to be answered
	}
	f.Flush(t.Context(), true)
	if bodies := s.bodies(); len(bodies) != 2 || !strings.Contains(bodies[1], `"repeated":99`) {
		t.Errorf("100 denials of one kind left %d events: %v", len(bodies), bodies)
	}
}

// TestNoDenialIsAnsweredBeforeItsKindIsDurable holds the first one up: the second
// must wait for it, and fail with it.
func TestNoDenialIsAnsweredBeforeItsKindIsDurable(t *testing.T) {
	s := &fakeStore{gate: make(chan struct{}), err: errors.New("the disk is full")}
	f := audit.NewFolder(running(t, s, audit.Config{}), time.Now, slog.New(slog.DiscardHandler))
	answers := make(chan error, 2)
	for range 2 {
		go func() { answers <- f.Deny(t.Context(), denial("192.0.2.1")) }()
	}
	select {
	case err := <-answers:
		t.Fatalf("a denial was answered with %v while nothing was durable", err)
	case s.gate <- struct{}{}:
	}
	close(s.gate)
	for range 2 {
		if err := <-answers; !fault.Is(err, fault.CodeUnavailable) {
			t.Errorf("a denial that was not recorded: %v, want UNAVAILABLE", err)
		}
	}
}

// TestTooManyKindsStayWithinTheirTenant fills the folder: what follows is counted
// for its own organization, without an agent or a source that others have.
func TestTooManyKindsStayWithinTheirTenant(t *testing.T) {
	s := &fakeStore{}
	f := audit.NewFolder(running(t, s, audit.Config{}), time.Now, slog.New(slog.DiscardHandler))
	tenants := [2]uuid.UUID{uuid.New(), uuid.New()}
	for range 10_000 {
		if err := f.Deny(t.Context(), denial("192.0.2.1").About(uuid.New())); err != nil {
			t.Fatal(err)
		}
	}
	before := len(s.bodies())
	for n := range 20 {
		tenant := tenants[n%2]
		e := audit.Origin{SourceIP: "192.0.2.9"}.Event(time.Now(), tenant, audit.TokenDenied, audit.Target{Type: audit.TypeAgent, ID: "victim"}).
			About(uuid.New()).Deny("agent_suspended")
		if err := f.Deny(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	f.Flush(t.Context(), true)
	after := s.bodies()[before:]
	if len(after) != 4 {
		t.Fatalf("20 denials of two tenants became %d events, want the first and a count for each: %v", len(after), after)
	}
	for _, body := range after {
		if strings.Contains(body, "victim") || strings.Contains(body, "192.0.2.9") || !strings.Contains(body, "many_sources") {
			t.Errorf("the event of many speaks of one: %s", body)
		}
	}
}

// TestWhoIsNobodyDrownsNobody floods the record from as many networks as there are:
// denials of known agents are still told apart.
func TestWhoIsNobodyDrownsNobody(t *testing.T) {
	s := &fakeStore{}
	f := audit.NewFolder(running(t, s, audit.Config{}), time.Now, slog.New(slog.DiscardHandler))
	for i := range 5000 {
		source := "2001:db8:0:1::" + strconv.FormatInt(int64(i), 16) // one /64
		if i >= 2500 {
			source = "2001:db8:" + strconv.FormatInt(int64(i), 16) + "::1" // as many networks
		}
		if err := f.Deny(t.Context(), denial(source)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.bodies()); n > 1001 {
		t.Errorf("5000 denials of nobody became %d events", n)
	}
	agent := uuid.New()
	if err := f.Deny(t.Context(), denial("192.0.2.1").About(agent)); err != nil {
		t.Fatal(err)
	}
	if bodies := s.bodies(); !strings.Contains(bodies[len(bodies)-1], agent.String()) {
		t.Errorf("a denial of a known agent was told as %s", bodies[len(bodies)-1])
	}
}
