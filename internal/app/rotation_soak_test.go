package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// soaking is what the clients of a soak have in common.
type soaking struct {
	t                         *testing.T
	base                      string
	http                      *http.Client
	tokens, rotations, losses atomic.Int64
}

// post asks as a client does, and fails the test on anything but 200.
func (s *soaking) post(ctx context.Context, path, id, secret string, form url.Values) []byte {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Error(err)
		return nil
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(id, secret)
	resp, err := s.http.Do(r)
	if err != nil {
		s.t.Errorf("%s: %v", path, err)
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Errorf("%s: %d %s, %v", path, resp.StatusCode, body, err)
		return nil
	}
	return body
}

func (s *soaking) token(ctx context.Context, id, secret string) {
	if s.post(ctx, "/oauth2/token", id, secret, url.Values{"grant_type": {"client_credentials"}}) != nil {
		s.tokens.Add(1)
	}
}

func (s *soaking) rotate(ctx context.Context, id, secret string) string {
	var rotated struct {
		Secret string `json:"client_secret"`
	}
	if body := s.post(ctx, "/oauth2/rotate", id, secret, url.Values{}); body != nil {
		if err := json.Unmarshal(body, &rotated); err != nil {
			s.t.Error(err)
		}
		s.rotations.Add(1)
	}
	return rotated.Secret
}

// client authenticates all the time and rotates every second, as it is told to: it keeps
// the old secret until a token was got with the new one. Every twentieth answer is lost.
func (s *soaking) client(ctx context.Context, n int, a apptest.Agent, end time.Time) {
	secret, next := a.Secret, time.Now().Add(time.Duration(n%100)*10*time.Millisecond)
	for round := n; time.Now().Before(end) && !s.t.Failed(); {
		s.token(ctx, a.ID, secret)
		if time.Now().Before(next) {
			time.Sleep(50 * time.Millisecond) // as an agent that has other things to do
			continue
		}
		next = next.Add(time.Second)
		if round++; round%20 == 0 {
			s.rotate(ctx, a.ID, secret)
			s.losses.Add(1)
		}
		fresh := s.rotate(ctx, a.ID, secret)
		if fresh == "" || fresh == secret {
			s.t.Errorf("client %d was given no new secret", n)
			return
		}
		s.token(ctx, a.ID, secret) // another instance that has not heard yet
		s.token(ctx, a.ID, fresh)
		secret = fresh
	}
}

// TestRotationSoak lets real clients rotate under each other's load without one refusal
// (R36). AGENTIDP_SOAK and AGENTIDP_SOAK_CLIENTS make it long: make soak-rotation.
func TestRotationSoak(t *testing.T) {
	length, clients := 6*time.Second, 20
	if text := os.Getenv("AGENTIDP_SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	if text := os.Getenv("AGENTIDP_SOAK_CLIENTS"); text != "" {
		var err error
		if clients, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	contract, err := apptest.LoadContract()
	if err != nil {
		t.Fatal(err)
	}
	server := apptest.Start(t, contract, "LOG_LEVEL=warn")
	admin := server.Admin()
	if got := server.Call(http.MethodPut, "/rotation-policies/*", admin, `{"maxAgeSeconds":86400,"overlapSeconds":3,"warnBeforeSeconds":[60]}`); got.Status != http.StatusOK {
		t.Fatalf("setting the policy: %d %s", got.Status, got.Body)
	}
	s := &soaking{t: t, base: server.URL, http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: clients}}}
	agents := make([]apptest.Agent, clients)
	for i := range agents {
		agents[i] = server.Register(admin, fmt.Sprintf("soak-%d", i), "", "jobs:run")
	}
	end := time.Now().Add(length)
	var all sync.WaitGroup
	for i, a := range agents {
		all.Go(func() { s.client(t.Context(), i, a, end) })
	}
	all.Wait()
	if t.Failed() {
		logs := server.Logs.String()
		t.Logf("the server logged:\n%s", logs[max(0, len(logs)-4000):])
	}
	t.Logf("%d clients, %v: %d tokens, %d rotations, of which %d were lost on their way, no failure", clients, length, s.tokens.Load(), s.rotations.Load(), s.losses.Load())
	if s.rotations.Load() < int64(clients) {
		t.Errorf("%d clients rotated %d times", clients, s.rotations.Load())
	}
	// The old ones end by themselves: nobody holds more than the overlap needs.
	for _, a := range agents[:min(5, clients)] {
		list := server.Call(http.MethodGet, "/agents/"+a.ID+"/credentials?limit=200", server.Admin(), "")
		if active := strings.Count(string(list.Body), `"status":"active"`); active > 12 {
			t.Errorf("a client holds %d active credentials", active)
		}
	}
}
