package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// TestManyOfOneRequestMakeOneAgent sends one request under one key many times at
// once: every one is answered with the same agent, and one of them with its secret.
func TestManyOfOneRequestMakeOneAgent(t *testing.T) {
	w := newWorld(t)
	repeat := func(bearer string) apptest.Answer {
		return w.send(operation{method: http.MethodPost, path: "/agents", mediaType: "application/json"}, bearer,
			func(r *http.Request) { r.Header.Set("Idempotency-Key", "once") },
			map[string]any{"email": "once@sentryagent.ai", "agentType": "x", "version": "1.0.0", "capabilities": []any{"a:b"}, "owner": "x", "deploymentEnv": "staging"})
	}
	answers := make([]apptest.Answer, 16)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = repeat(w.admin) })
	}
	wg.Wait()
	ids, secrets := map[string]bool{}, 0
	for _, a := range answers {
		var made struct {
			ID         string
			Credential struct{ ClientSecret *string }
		}
		if err := json.Unmarshal(a.Body, &made); err != nil || a.Status != http.StatusCreated {
			t.Errorf("an answer of many: %d %s", a.Status, a.Body)
		}
		ids[made.ID] = true
		if made.Credential.ClientSecret != nil {
			secrets++
		}
	}
	if len(ids) != 1 || secrets != 1 {
		t.Errorf("%d agents were made, %d secrets told; want one of each", len(ids), secrets)
	}
	// A key is its caller's own, and is remembered for a day.
	other := w.Register(w.admin, "other", "", "agents:write")
	if got := repeat(w.Token(other.ID, other.Secret, "agents:write")); got.Status != http.StatusConflict || !strings.Contains(string(got.Body), "AGENT_ALREADY_EXISTS") {
		t.Errorf("another caller's key: %d %s", got.Status, got.Body)
	}
	w.Clock.Add(25 * time.Hour)
	if err := w.App.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := repeat(w.Admin()); got.Status != http.StatusConflict {
		t.Errorf("a day later: %d %s", got.Status, got.Body)
	}
}
