package api_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// job is a revocation as it is answered.
type job struct {
	ID, Status, Action, Receipt string
	Matched, Changed, Written   int
	Undoes, UndoneBy            *string
}

func jobOf(t *testing.T, a apptest.Answer) job {
	t.Helper()
	var j job
	if err := json.Unmarshal(a.Body, &j); err != nil || j.ID == "" {
		t.Fatalf("no revocation: %d %s", a.Status, a.Body)
	}
	return j
}

// completed waits until a job has written all agents.
func (w *world) completed(id string) job {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		j := jobOf(w.t, w.Call(http.MethodGet, "/revocations/"+id, w.admin, ""))
		if j.Status == "completed" {
			return j
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the job still stands at %d of %d", j.Written, j.Changed)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// many registers so many agents.
func (w *world) many(name string, n int) []apptest.Agent {
	w.t.Helper()
	all := make([]apptest.Agent, n)
	for i := range all {
		all[i] = w.Register(w.admin, fmt.Sprintf("%s-%d", name, i), "", name+":read")
	}
	return all
}

// denied says of each agent whether it gets no token.
func (w *world) denied(agents []apptest.Agent) int {
	w.t.Helper()
	denied := 0
	for _, a := range agents {
		if got := w.Form("/oauth2/token", a.ID, a.Secret, map[string][]string{"grant_type": {"client_credentials"}}); got.Status == http.StatusUnauthorized {
			denied++
		}
	}
	return denied
}

func TestALongRevocationIsInEffectWhenItIsAnswered(t *testing.T) {
	w := newWorld(t)
	agents := w.many("fleet", 130)
	tokens := make([]string, len(agents))
	for i, a := range agents {
		tokens[i] = w.Token(a.ID, a.Secret, "")
	}
	answer := w.Call(http.MethodPost, "/revocations", w.admin, `{"selector":{"capability":"fleet:read"},"action":"suspend","reason":"all of them"}`)
	j := jobOf(t, answer)
	if answer.Status != http.StatusAccepted || j.Matched != 130 || j.Changed != 130 || answer.Header.Get("Location") != "/revocations/"+j.ID {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	if n := w.denied(agents); n != len(agents) {
		t.Errorf("%d of %d are denied a token", n, len(agents))
	}
	for _, token := range tokens {
		if got := w.introspect(token); got {
			t.Fatal("a token from before is active")
		}
	}
	if done := w.completed(j.ID); done.Written != 130 || done.Receipt != j.Receipt {
		t.Errorf("%+v", done)
	}
	undo := w.Call(http.MethodPost, "/revocations/"+j.ID+"/undo", w.admin, "")
	if u := jobOf(t, undo); undo.Status != http.StatusAccepted || u.Changed != 130 || u.Undoes == nil || *u.Undoes != j.ID {
		t.Errorf("%d %s", undo.Status, undo.Body)
	}
	if n := w.denied(agents); n != 0 {
		t.Errorf("%d are denied a token after the undo was answered", n)
	}
	w.completed(jobOf(t, undo).ID)
	if n := w.denied(agents); n != 0 {
		t.Errorf("%d are denied a token after the undo was written", n)
	}
}

func (w *world) introspect(token string) bool {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.URL+"/oauth2/introspect", strings.NewReader("token="+token))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "Bearer "+w.admin)
	active, _ := w.Do(r).JSON(w.t)["active"].(bool)
	return active
}

// TestARevocationWhileAnotherIsWritten overlaps jobs: each agent ends as the last one
// decided, whatever is written when.
func TestARevocationWhileAnotherIsWritten(t *testing.T) {
	w := newWorld(t)
	agents := w.many("both", 120)
	start := func(action string) job {
		return jobOf(t, w.Call(http.MethodPost, "/revocations", w.admin, `{"selector":{"capability":"both:read"},"action":"`+action+`"}`))
	}
	first, second, third := start("tokens"), start("suspend"), start("revoke")
	if first.Changed != 120 || second.Changed != 120 || third.Changed != 120 {
		t.Errorf("changed: %d, %d, %d", first.Changed, second.Changed, third.Changed)
	}
	if again := start("suspend"); again.Changed != 0 || again.Matched != 120 {
		t.Errorf("the revoked are suspended: %+v", again)
	}
	w.completed(third.ID)
	for _, a := range agents {
		got := w.Call(http.MethodGet, "/agents/"+a.ID, w.admin, "")
		if got.JSON(t)["status"] != "revoked" || got.Header.Get("ETag") != `"4"` {
			t.Fatalf("%s %s", got.Header.Get("ETag"), got.Body)
		}
	}
	// The record tells it in the order in which it took effect.
	var events struct{ Items []struct{ Action string } }
	if err := json.Unmarshal(w.Call(http.MethodGet, "/audit/events?limit=3&agentId="+agents[7].ID, w.admin, "").Body, &events); err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, e := range events.Items {
		actions = append(actions, e.Action)
	}
	if want := []string{"agent.revoked", "agent.suspended", "agent.tokens_revoked"}; !slices.Equal(actions, want) {
		t.Errorf("the events are %v, want %v", actions, want)
	}
}

// TestAtOnceUnderOneKeyItIsDoneOnce sends one request many times at the same moment.
func TestAtOnceUnderOneKeyItIsDoneOnce(t *testing.T) {
	w := newWorld(t)
	w.many("once", 5)
	ids := make([]string, 8)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.URL+"/revocations", strings.NewReader(`{"selector":{"capability":"once:read"},"action":"tokens"}`))
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+w.admin)
			r.Header.Set("Idempotency-Key", "at-once")
			var j job
			if err := json.Unmarshal(w.Do(r).Body, &j); err != nil || j.Changed != 5 {
				t.Errorf("%+v %v", j, err)
			}
			ids[i] = j.ID
		})
	}
	all.Wait()
	if slices.Sort(ids); ids[0] != ids[len(ids)-1] || ids[0] == "" {
		t.Errorf("it was done more than once: %v", ids)
	}
}

func TestASelectorIsBounded(t *testing.T) {
	w := newWorld(t)
	before := w.state()
	ids := func(n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = uuid.NewString()
		}
		return `{"selector":{"agentIds":["` + strings.Join(all, `","`) + `"]},"action":"revoke"}`
	}
	for n, want := range map[int]int{1001: http.StatusBadRequest, 2000: http.StatusRequestEntityTooLarge} {
		if got := w.Call(http.MethodPost, "/revocations", w.admin, ids(n)); got.Status != want {
			t.Errorf("%d ids: %d %.200s, want %d", n, got.Status, got.Body, want)
		}
	}
	if after := w.state(); after != before {
		t.Errorf("a refused request changed something: %s", after)
	}
	if got := w.Call(http.MethodPost, "/revocations", w.admin, ids(1000)); got.Status != http.StatusOK || jobOf(t, got).Matched != 0 {
		t.Errorf("1000 unknown ids: %d %.200s", got.Status, got.Body)
	}
}

// TestAReceiptIsVerifiedWithThePublishedKeys reads a receipt as an outsider would.
func TestAReceiptIsVerifiedWithThePublishedKeys(t *testing.T) {
	w := newWorld(t)
	answer := w.Call(http.MethodPost, "/revocations", w.admin, `{"selector":{"agentIds":["`+w.target.ID+`"]},"action":"suspend","reason":"leaked"}`)
	j := jobOf(t, answer)
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(w.Call(http.MethodGet, "/.well-known/jwks.json", "", "").Body, &set); err != nil {
		t.Fatal(err)
	}
	signed, err := jose.ParseSignedCompact(j.Receipt, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	header := signed.Signatures[0].Protected
	payload, err := signed.Verify(set.Key(header.KeyID)[0])
	if err != nil || header.ExtraHeaders["typ"] != "revocation-receipt+jwt" {
		t.Fatalf("%v %v", header.ExtraHeaders, err)
	}
	var got map[string]any
	if err := json.Unmarshal(payload, &got); err != nil {
		t.Fatal(err)
	}
	said, _ := got["revocation"].(map[string]any)
	selector, _ := json.Marshal(said["selector"])
	if got["iss"] != w.URL || got["jti"] != j.ID || got["event"] != answer.Header.Get("Audit-Event-Id") || said["by"] != w.AdminID || said["reason"] != "leaked" ||
		said["action"] != "suspend" || said["matched"] != 1.0 || said["changed"] != 1.0 || string(selector) != `{"agentIds":["`+w.target.ID+`"]}` {
		t.Errorf("the receipt says %s", payload)
	}
	for _, claim := range []string{"sub", "exp", "scope", "client_id", "aud"} {
		if _, there := got[claim]; there {
			t.Errorf("a receipt has the claim %s of an access token", claim)
		}
	}
	parts := strings.Split(j.Receipt, ".")
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), `"changed":1`, `"changed":9`, 1)))
	forged, err := jose.ParseSignedCompact(strings.Join(parts, "."), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := forged.Verify(set.Key(header.KeyID)[0]); err == nil {
		t.Error("a changed receipt verifies")
	}
}
