package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// forge is what an attacker has to make tokens from: a good token, and what is
// published.
type forge struct {
	header  map[string]any
	payload map[string]any
	good    string
	public  []byte // the published key set
}

func newForge(t *testing.T, w *world) forge {
	t.Helper()
	f := forge{good: w.admin, public: w.Call(http.MethodGet, "/.well-known/jwks.json", "", "").Body}
	parts := strings.Split(w.admin, ".")
	for i, into := range []*map[string]any{&f.header, &f.payload} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func encode(t *testing.T, v map[string]any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func with(m map[string]any, name string, value any) map[string]any {
	changed := maps.Clone(m)
	changed[name] = value
	return changed
}

// TestForgedTokensAreRefused presents tokens that a careless verifier takes, to
// the API and to introspection.
func TestForgedTokensAreRefused(t *testing.T) {
	w := newWorld(t)
	f := newForge(t, w)
	signature := f.good[strings.LastIndex(f.good, ".")+1:]
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(header, payload map[string]any) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: other}, &jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{
			"kid": header["kid"], "typ": header["typ"],
		}})
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := json.Marshal(payload)
		jws, err := signer.Sign(raw)
		if err != nil {
			t.Fatal(err)
		}
		compact, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return compact
	}
	hs256 := func(key []byte) string {
		input := encode(t, with(f.header, "alg", "HS256")) + "." + encode(t, f.payload)
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(input))
		return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	jwk, err := json.Marshal(other.Public())
	if err != nil {
		t.Fatal(err)
	}
	later := f.payload["exp"].(float64) + 1e6
	for name, token := range map[string]string{
		"alg none":                             encode(t, with(f.header, "alg", "none")) + "." + encode(t, f.payload) + ".",
		"alg none with the old signature":      encode(t, with(f.header, "alg", "none")) + "." + encode(t, f.payload) + "." + signature,
		"HS256 with the published key set":     hs256(f.public),
		"HS256 with the empty key":             hs256([]byte{0}),
		"more scope under the old signature":   encode(t, f.header) + "." + encode(t, with(f.payload, "scope", apptest.AllScopes+" more:all")) + "." + signature,
		"longer life under the old signature":  encode(t, f.header) + "." + encode(t, with(f.payload, "exp", later)) + "." + signature,
		"another organization":                 encode(t, f.header) + "." + encode(t, with(f.payload, "org", w.target.ID)) + "." + signature,
		"another's key under our key id":       signed(f.header, f.payload),
		"another's key under an unknown id":    signed(with(f.header, "kid", "unknown"), f.payload),
		"a key in the header":                  encode(t, with(f.header, "jwk", json.RawMessage(jwk))) + "." + encode(t, f.payload) + "." + signature,
		"no signature":                         strings.TrimSuffix(f.good, signature),
		"a type that is no access token":       encode(t, with(f.header, "typ", "JWT")) + "." + encode(t, f.payload) + "." + signature,
		"five parts":                           f.good + ".x.y",
		"white space":                          " " + f.good,
		"an alg that the key is not for":       encode(t, with(f.header, "alg", "RS256")) + "." + encode(t, f.payload) + "." + signature,
		"very long":                            strings.Repeat("a", 9<<10),
		"a signature with its first bit moved": f.good[:len(f.good)-len(signature)] + string(signature[0]^1) + signature[1:],
	} {
		if name == "very long" {
			continue // as a header it is too long for a server to read; below as a parameter
		}
		if got := w.Call(http.MethodGet, "/agents", token, ""); got.Status != http.StatusUnauthorized {
			t.Errorf("%s: the API answers %d", name, got.Status)
		}
		got := w.Form("/oauth2/introspect", w.target.ID, w.target.Secret, url.Values{"token": {token}})
		if got.Status != http.StatusOK || string(got.Body) != `{"active":false}` {
			t.Errorf("%s: introspection answers %d %s", name, got.Status, got.Body)
		}
	}
	got := w.Form("/oauth2/introspect", w.target.ID, w.target.Secret, url.Values{"token": {strings.Repeat("a", 9<<10)}})
	if got.Status != http.StatusOK || string(got.Body) != `{"active":false}` {
		t.Errorf("a very long token: %d %s", got.Status, got.Body)
	}
	if got := w.Call(http.MethodGet, "/agents", f.good, ""); got.Status != http.StatusOK {
		t.Errorf("the good token: %d", got.Status)
	}
}

// TestAnExpiredTokenIsDead moves the clock past a token's life, and back.
func TestAnExpiredTokenIsDead(t *testing.T) {
	w := newWorld(t)
	w.Clock.Add(59 * time.Minute)
	if got := w.Call(http.MethodGet, "/agents", w.admin, ""); got.Status != http.StatusOK {
		t.Fatalf("within its hour: %d", got.Status)
	}
	w.Clock.Add(time.Minute)
	if got := w.Call(http.MethodGet, "/agents", w.admin, ""); got.Status != http.StatusUnauthorized {
		t.Errorf("after its hour: %d", got.Status)
	}
	// A clock that is set back does not stop the server from issuing, nor make
	// what it issues invalid.
	w.Clock.Add(-2 * time.Hour)
	if got := w.Call(http.MethodGet, "/agents", w.Admin(), ""); got.Status != http.StatusOK {
		t.Errorf("a new token after the clock was set back: %d", got.Status)
	}
}

// TestACredentialExpires with the clock, and is then refused.
func TestACredentialExpires(t *testing.T) {
	w := newWorld(t)
	end := w.Clock.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	made := w.Call(http.MethodPost, "/agents/"+w.target.ID+"/credentials", w.admin, `{"expiresAt":"`+end+`"}`).JSON(t)
	secret := made["clientSecret"].(string)
	w.Token(w.target.ID, secret, "")
	w.Clock.Add(time.Hour)
	if got := w.Form("/oauth2/token", w.target.ID, secret, url.Values{"grant_type": {"client_credentials"}}); got.Status != http.StatusUnauthorized {
		t.Errorf("an expired credential got %d %s", got.Status, got.Body)
	}
}

// TestTheActorIsWhoAuthenticated and nobody a header names.
func TestTheActorIsWhoAuthenticated(t *testing.T) {
	w := newWorld(t)
	got := w.send(operation{method: http.MethodPost, path: "/agents/{agentId}/suspend"}, w.admin, func(r *http.Request) {
		for _, name := range []string{"X-Actor", "X-User", "X-Agent-Id", "X-Forwarded-User", "X-Remote-User", "X-Client-Id"} {
			r.Header.Set(name, "mallory")
		}
		r.Header.Set("X-Forwarded-For", "203.0.113.99")
	}, nil)
	if got.Status != http.StatusOK {
		t.Fatalf("suspending: %d %s", got.Status, got.Body)
	}
	events := w.Call(http.MethodGet, "/audit/events?action=agent.suspended", w.admin, "")
	if strings.Contains(string(events.Body), "mallory") || strings.Contains(string(events.Body), "203.0.113.99") || !strings.Contains(string(events.Body), w.AdminID) {
		t.Errorf("the record says: %s", events.Body)
	}
}

// TestNothingSucceedsUnrecorded makes the record impossible to write: no change
// is made and no token leaves, whatever the database itself would allow.
func TestNothingSucceedsUnrecorded(t *testing.T) {
	w := newWorld(t)
	db := apptest.OpenDatabase(t, w.Database())
	if _, err := db.ExecContext(t.Context(), "CREATE TRIGGER broken BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"); err != nil {
		t.Fatal(err)
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if got := w.Form("/oauth2/token", w.target.ID, w.target.Secret, form); got.Status != http.StatusServiceUnavailable || strings.Contains(string(got.Body), "access_token") {
		t.Errorf("a token without a record: %d %s", got.Status, got.Body)
	}
	if got := w.Form("/oauth2/token", w.target.ID, "sidp_wrong", form); got.Status != http.StatusServiceUnavailable {
		t.Errorf("a denial without a record: %d %s", got.Status, got.Body)
	}
	for path, body := range map[string]string{
		"/agents/" + w.target.ID + "/suspend": "", "/agents/" + w.target.ID + "/credentials": "",
		"/agents": `{"email":"new@sentryagent.ai","agentType":"x","version":"1.0.0","capabilities":["a:b"],"owner":"x","deploymentEnv":"staging"}`,
	} {
		if got := w.Call(http.MethodPost, path, w.admin, body); got.Status != http.StatusServiceUnavailable {
			t.Errorf("POST %s without a record: %d %s", path, got.Status, got.Body)
		}
	}
	if got := w.Call(http.MethodGet, "/agents", "x.y.z", ""); got.Status != http.StatusServiceUnavailable {
		t.Errorf("a refusal without a record: %d", got.Status)
	}
	if strings.Contains(w.Logs.String(), w.target.Secret) {
		t.Error("the logs hold a secret")
	}
	if _, err := db.ExecContext(t.Context(), "DROP TRIGGER broken"); err != nil {
		t.Fatal(err)
	}
	if got := w.Call(http.MethodGet, "/agents/"+w.target.ID, w.admin, ""); got.JSON(t)["status"] != "active" {
		t.Errorf("what failed has changed the agent: %s", got.Body)
	}
	if got := w.Call(http.MethodGet, "/agents?email=new@sentryagent.ai", w.admin, ""); !strings.Contains(string(got.Body), `"items":[]`) {
		t.Errorf("what failed has made an agent: %s", got.Body)
	}
	w.Token(w.target.ID, w.target.Secret, "")
}

// TestRepeatedDenialsAreCountedNotPiledUp guesses 500 times from one address: a
// handful of events tell of all of them, and nothing is lost.
func TestRepeatedDenialsAreCountedNotPiledUp(t *testing.T) {
	dir := t.TempDir()
	s := apptest.StartIn(t, dir, contract)
	admin := s.Admin()
	victim := s.Register(admin, "victim", "", "a:b")
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 50 {
				s.Form("/oauth2/token", victim.ID, "sidp_guess", url.Values{"grant_type": {"client_credentials"}})
			}
		})
	}
	wg.Wait()
	id, secret := s.AdminID, s.AdminSecret
	s.Stop() // what was counted is recorded
	s = apptest.StartIn(t, dir, contract)
	admin = s.Token(id, secret, apptest.AllScopes)
	var events struct {
		Items []struct{ Details struct{ Repeated int } }
	}
	got := s.Call(http.MethodGet, "/audit/events?action=token.denied", admin, "")
	if err := json.Unmarshal(got.Body, &events); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, e := range events.Items {
		total += max(1, e.Details.Repeated)
	}
	if total != 500 || len(events.Items) > 5 {
		t.Errorf("500 guesses became %d events that tell of %d", len(events.Items), total)
	}
}

// TestConcurrentChangesLoseNothing has one agent changed by many at once: with
// If-Match exactly one of each round gets through.
func TestConcurrentChangesLoseNothing(t *testing.T) {
	w := newWorld(t)
	for round := range 5 {
		tag := w.Call(http.MethodGet, "/agents/"+w.target.ID, w.admin, "").Header.Get("ETag")
		statuses := make([]int, 8)
		var wg sync.WaitGroup
		for i := range statuses {
			wg.Go(func() {
				got := w.send(operation{method: http.MethodPatch, path: "/agents/{agentId}", mediaType: "application/json"}, w.admin,
					func(r *http.Request) { r.Header.Set("If-Match", tag) }, map[string]any{"owner": "owner-" + string(rune('a'+round)) + string(rune('a'+i))})
				statuses[i] = got.Status
			})
		}
		wg.Wait()
		slices.Sort(statuses)
		if statuses[0] != http.StatusOK || statuses[1] != http.StatusPreconditionFailed {
			t.Errorf("round %d: %v, want one 200 and else 412", round, statuses)
		}
	}
}

// TestManyRegisteringOneEmailGiveOneAgent and every other a clear 409.
func TestManyRegisteringOneEmailGiveOneAgent(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	statuses := make([]int, 16)
	for i := range statuses {
		wg.Go(func() {
			statuses[i] = w.Call(http.MethodPost, "/agents", w.admin,
				`{"email":"same@sentryagent.ai","agentType":"x","version":"1.0.0","capabilities":["a:b"],"owner":"x","deploymentEnv":"staging"}`).Status
		})
	}
	wg.Wait()
	slices.Sort(statuses)
	if statuses[0] != http.StatusCreated || statuses[1] != http.StatusConflict || statuses[15] != http.StatusConflict {
		t.Errorf("statuses %v, want one 201 and else 409", statuses)
	}
}
