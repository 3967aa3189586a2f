package api_test

import (
	"net/http"
	"net/url"
	"testing"

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
	s.Stop()
	s = apptest.StartIn(t, dir, contract, "TOKEN_TTL_MAX=1h")
	got := s.Form("/oauth2/token", agent.ID, agent.Secret, url.Values{"grant_type": {"client_credentials"}})
	if seconds, _ := got.JSON(t)["expires_in"].(float64); seconds != 3600 {
		t.Errorf("a token lives %v seconds, the maximum is 3600", seconds)
	}
}
