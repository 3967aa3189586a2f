package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// TestALowerMaximumBindsEveryAgent starts again with a lower TOKEN_TTL_MAX: keys
// retire so long after they last signed, so no token may live longer.
func TestALowerMaximumBindsEveryAgent(t *testing.T) {
	dir := t.TempDir()
	s := apptest.StartIn(t, dir, contract)
	agent := s.Register(s.Admin(), "patient", "", "a:b")
	if got := s.Call(http.MethodPatch, "/agents/"+agent.ID, s.Admin(), `{"tokenTtlSeconds":86400}`); got.Status != http.StatusOK {
		t.Fatalf("a lifetime of a day: %d %s", got.Status, got.Body)
	}
	id, secret := s.AdminID, s.AdminSecret
	s.Stop()
	s = apptest.StartIn(t, dir, contract, "TOKEN_TTL_MAX=1h")
	got := s.Form("/oauth2/token", agent.ID, agent.Secret, url.Values{"grant_type": {"client_credentials"}})
	if seconds, _ := got.JSON(t)["expires_in"].(float64); seconds != 3600 {
		t.Errorf("a token lives %v seconds, the maximum is 3600", seconds)
	}
	// What no longer keeps the bound hinders no other change, and is not set anew.
	admin := s.Token(id, secret, apptest.AllScopes)
	for body, want := range map[string]int{`{"owner":"another team"}`: http.StatusOK, `{"tokenTtlSeconds":86400}`: http.StatusBadRequest} {
		if got := s.Call(http.MethodPatch, "/agents/"+agent.ID, admin, body); got.Status != want {
			t.Errorf("PATCH %s: %d %s, want %d", body, got.Status, got.Body, want)
		}
	}
}

// TestATokenThatNobodyWouldTakeIsNotIssued asks for more scope than a token can
// carry: it is refused before anything is recorded, and less is granted.
func TestATokenThatNobodyWouldTakeIsNotIssued(t *testing.T) {
	s := apptest.Start(t, contract)
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("%s:action%02d", strings.Repeat("r", 100), i))
	}
	agent := s.Register(s.Admin(), "greedy", "", many...)
	got := s.Form("/oauth2/token", agent.ID, agent.Secret, url.Values{"grant_type": {"client_credentials"}})
	if got.Status != http.StatusBadRequest || got.JSON(t)["error"] != "invalid_scope" {
		t.Errorf("a token of 100 long scopes: %d %.200s", got.Status, got.Body)
	}
	token := s.Token(agent.ID, agent.Secret, strings.Join(many[:20], " "))
	if got := s.Form("/oauth2/introspect", agent.ID, agent.Secret, url.Values{"token": {token}}); !strings.Contains(string(got.Body), `"active":true`) {
		t.Errorf("a token of 20 long scopes is not active: %s", got.Body)
	}
}

// TestAClockThatJumpedDoesNotMakeTokensForLater moves the clock a year ahead and
// back: an agent that was suspended then gets no token that holds only next year.
func TestAClockThatJumpedDoesNotMakeTokensForLater(t *testing.T) {
	s := apptest.Start(t, contract)
	agent := s.Register(s.Admin(), "traveller", "", "a:b")
	s.Clock.Add(365 * 24 * time.Hour)
	s.Token(agent.ID, agent.Secret, "")
	s.Clock.Add(-365 * 24 * time.Hour)
	admin := s.Admin()
	for _, step := range []string{"suspend", "reactivate"} {
		if got := s.Call(http.MethodPost, "/agents/"+agent.ID+"/"+step, admin, ""); got.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", step, got.Status, got.Body)
		}
	}
	got := s.Form("/oauth2/token", agent.ID, agent.Secret, url.Values{"grant_type": {"client_credentials"}})
	if got.Status != http.StatusServiceUnavailable || !strings.Contains(s.Logs.String(), "was the clock set back?") {
		t.Errorf("a token for next year: %d %s", got.Status, got.Body)
	}
}

// TestTokensTellWhatIsLeftOfTheirLimits shows each limit that counts, and what
// becomes of a client and of an organization that have had enough (R38).
func TestTokensTellWhatIsLeftOfTheirLimits(t *testing.T) {
	s := apptest.Start(t, contract, "RATE_LIMIT=on", "RATE_LIMIT_CLIENT=3")
	admin := s.Admin()
	made := s.Call(http.MethodPost, "/organizations", admin, `{"name":"small","tokenRatePerMinute":2}`).JSON(t)
	query := "?organizationId=" + made["id"].(string)
	first, second := s.Register(admin, "first", query, "a:b"), s.Register(admin, "second", query, "a:b")
	alone := s.Register(admin, "alone", "", "a:b")
	ask := func(a apptest.Agent) apptest.Answer {
		return s.Form("/oauth2/token", a.ID, a.Secret, url.Values{"grant_type": {"client_credentials"}})
	}
	got := ask(first)
	for _, limit := range []string{`"source";r=`, `"client";r=2;`, `"organization";r=1;`} {
		if !strings.Contains(got.Header.Get("RateLimit"), limit) {
			t.Errorf("RateLimit is %s, and lacks %s", got.Header.Get("RateLimit"), limit)
		}
	}
	ask(second)
	for range 3 {
		ask(alone)
	}
	for who, agent := range map[string]apptest.Agent{"an organization": first, "a client": alone} {
		if got := ask(agent); got.Status != http.StatusTooManyRequests || got.Header.Get("Retry-After") == "" || got.JSON(t)["error"] != "temporarily_unavailable" {
			t.Errorf("%s that has had enough: %d %s", who, got.Status, got.Body)
		}
	}
}
