package app_test

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/redistest"
)

// patience bounds a wait; it is reached only when something is broken.
const patience = 30 * time.Second

// until asks again and again until what is asked is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !so(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("still not so: " + what)
		}
	}
}

// nodes starts two servers on one database and one Redis.
func nodes(t *testing.T, redis *redistest.Server, settings ...string) (a, b *apptest.Server) {
	t.Helper()
	contract, err := apptest.LoadContract()
	if err != nil {
		t.Fatal(err)
	}
	settings = append([]string{"REDIS_URL=" + redis.URL(), "JWT_ISSUER=http://idp.test"}, settings...)
	a = apptest.Start(t, contract, settings...)
	b = apptest.StartIn(t, a.Dir, contract, settings...)
	b.AdminID, b.AdminSecret = a.AdminID, a.AdminSecret
	redis.Until(t, "PUBSUB NUMSUB agentidp:changes", ":2")
	return a, b
}

// ask asks for a token and gives the status.
func ask(s *apptest.Server, id, secret string) int {
	return s.Form("/oauth2/token", id, secret, url.Values{"grant_type": {"client_credentials"}}).Status
}

// drain asks for tokens until they are refused, and gives how many there were.
func drain(t *testing.T, s *apptest.Server, id, secret string) (given int) {
	t.Helper()
	for range 200 {
		switch status := ask(s, id, secret); status {
		case http.StatusOK:
			given++
		case http.StatusTooManyRequests:
			return given
		default:
			t.Fatalf("asking for a token was answered %d", status)
		}
	}
	t.Fatal("the limit is never reached")
	return given
}

func health(t *testing.T, s *apptest.Server) string {
	t.Helper()
	a := s.Call(http.MethodGet, "/health", "", "")
	if a.Status != http.StatusOK {
		t.Errorf("/health answers %d", a.Status)
	}
	return string(a.Body)
}

// Redis may come and go; the limits are shared while it is there (R7).
func TestNodesShareLimitsWhileRedisIsThere(t *testing.T) {
	const limit = 30
	redis := redistest.Start(t)
	a, b := nodes(t, redis, "RATE_LIMIT=on", "RATE_LIMIT_CLIENT="+strconv.Itoa(limit))
	admin, agents := a.Admin(), 0
	// given tells what a new agent got from one node and then from the other.
	given := func() (first, second int) {
		agents++
		agent := a.Register(admin, "agent-"+strconv.Itoa(agents), "", "data:read")
		return drain(t, a, agent.ID, agent.Secret), drain(t, b, agent.ID, agent.Secret)
	}
	// A busy machine may take Redis to be away for a moment.
	shared := func() bool {
		_, second := given()
		return second < limit
	}
	until(t, "the nodes share one budget", shared)
	until(t, "/health says ok", func() bool { return strings.Contains(health(t, a), `"redis":{"status":"ok"}`) })

	redis.Kill()
	if first, second := given(); first < limit || second < limit {
		t.Errorf("alone, the nodes gave %d and %d tokens, want of each its own %d", first, second, limit)
	}
	if got := health(t, b); !strings.Contains(got, `"status":"degraded"`) || !strings.Contains(got, `"redis":{"status":"unavailable"}`) {
		t.Errorf("without Redis /health says %s", got)
	}

	redis.Run(t)
	until(t, "the nodes share one budget again", shared)
	until(t, "/health says ok again", func() bool { return strings.Contains(health(t, b), `"status":"ok","version"`) })
}

func TestAChangeOnOneNodeIsForgottenOnTheOther(t *testing.T) {
	redis := redistest.Start(t)
	a, b := nodes(t, redis)
	admin := a.Admin()
	agent := a.Register(admin, "suspended", "", "data:read")
	if status := ask(b, agent.ID, agent.Secret); status != http.StatusOK {
		t.Fatalf("the second node answers %d", status)
	}
	keyID := agent.Secret[5:17]
	if strings.Contains(b.Logs.String(), keyID) {
		t.Fatal("the second node forgot before there was a change")
	}
	if got := a.Call(http.MethodPost, "/agents/"+agent.ID+"/suspend", admin, ""); got.Status != http.StatusOK {
		t.Fatalf("suspending: %d %s", got.Status, got.Body)
	}
	forgot := `"msg":"forgot what was changed","keyId":"` + keyID + `"`
	until(t, "the second node forgets", func() bool { return strings.Contains(b.Logs.String(), forgot) })
	if status := ask(b, agent.ID, agent.Secret); status != http.StatusUnauthorized && status != http.StatusBadRequest {
		t.Errorf("the second node answers %d to a suspended agent", status)
	}
	// Lost, a message is missed by nobody: the commit finds out.
	redis.Kill()
	other := a.Register(admin, "unheard", "", "data:read")
	if status := ask(b, other.ID, other.Secret); status != http.StatusOK {
		t.Fatalf("the second node answers %d", status)
	}
	if got := a.Call(http.MethodPost, "/agents/"+other.ID+"/suspend", admin, ""); got.Status != http.StatusOK {
		t.Fatalf("suspending: %d %s", got.Status, got.Body)
	}
	if status := ask(b, other.ID, other.Secret); status == http.StatusOK {
		t.Error("a suspended agent got a token from the node that was not told")
	}
	redis.Run(t)
	redis.Until(t, "PUBSUB NUMSUB agentidp:changes", ":2")
}

func TestABadRedisURLIsRefusedAtTheStartAndNotRepeated(t *testing.T) {
	cfg, err := config.Load(config.Sources{Environ: []string{"DATA_DIR=" + t.TempDir(), "REDIS_URL=redis://u:SECRETMARKER@host:port"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = app.Open(t.Context(), cfg, nil, time.Now)
	if err == nil || !strings.Contains(err.Error(), "REDIS_URL: must be") || strings.Contains(err.Error(), "SECRETMARKER") {
		t.Errorf("opening gave %v", err)
	}
}
