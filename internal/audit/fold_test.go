package audit_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
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
	s.mu.Lock()
	defer s.mu.Unlock()
	var bodies []string
	for _, b := range s.batches {
		for _, r := range b {
			bodies = append(bodies, string(r.Event.Encode()))
		}
	}
	if len(bodies) != 3 || !strings.Contains(strings.Join(bodies, ""), `"repeated":999`) {
		t.Errorf("1001 denials from two sources left %d events, want the two first ones and one that counts 999: %v", len(bodies), bodies)
	}
}
