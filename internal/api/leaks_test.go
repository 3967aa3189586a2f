package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// reporter is a host that finds secrets and reports them.
type reporter struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	file string
}

func newReporter(t *testing.T) *reporter {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"public_keys": []map[string]any{{
		"key_identifier": "k1", "is_current": true, "key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	r := &reporter{t: t, key: key, file: filepath.Join(t.TempDir(), "keys.json")}
	if err := os.WriteFile(r.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *reporter) sign(req *http.Request, body string) {
	r.t.Helper()
	sum := sha256.Sum256([]byte(body))
	signature, err := ecdsa.SignASN1(rand.Reader, r.key, sum[:])
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Github-Public-Key-Identifier", "k1")
	req.Header.Set("Github-Public-Key-Signature", base64.StdEncoding.EncodeToString(signature))
}

// report reports secrets and gives the verdicts' labels.
func (w *world) report(change func(r *http.Request), tokens ...string) (apptest.Answer, []string) {
	w.t.Helper()
	var found []map[string]string
	for _, text := range tokens {
		found = append(found, map[string]string{"token": text, "type": "sentryagent_client_secret", "url": "https://git.example/x", "source": "content"})
	}
	body, err := json.Marshal(found)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.URL+"/secrets/leaked", strings.NewReader(string(body)))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	w.reporter.sign(r, string(body))
	if change != nil {
		change(r)
	}
	got := w.Do(r)
	var verdicts []struct {
		Hash  string `json:"token_hash"`
		Label string
	}
	if got.Status == http.StatusOK {
		if err := json.Unmarshal(got.Body, &verdicts); err != nil || len(verdicts) != len(tokens) {
			w.t.Fatalf("the verdicts: %s, %v", got.Body, err)
		}
	}
	var labels []string
	for i, v := range verdicts {
		if sum := sha256.Sum256([]byte(tokens[i])); v.Hash != hex.EncodeToString(sum[:]) {
			w.t.Errorf("verdict %d is about %s", i, v.Hash)
		}
		labels = append(labels, v.Label)
	}
	return got, labels
}

// status gets a token, or says why there is none.
func (w *world) status(id, secret string) int {
	w.t.Helper()
	return w.Form("/oauth2/token", id, secret, url.Values{"grant_type": {"client_credentials"}}).Status
}

// forged is a secret with the key id of another and a right checksum, as whoever knows
// the key id can make it.
func forged(secret string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	text := secret[:17] + strings.Repeat("x", 43)
	sum, n := make([]byte, 6), crc32.ChecksumIEEE([]byte(text))
	for i := range sum {
		sum[5-i] = digits[n%62]
		n /= 62
	}
	return text + string(sum)
}

func TestALeakedSecretEndsAtOnceAsThePolicySays(t *testing.T) {
	w := newWorld(t)
	other := w.Register(w.admin, "other", "", "invoices:read")
	held := w.Token(w.target.ID, w.target.Secret, "")
	flip := func(s string, i int) string {
		c := byte('a')
		if s[i] == c {
			c = 'b'
		}
		return s[:i] + string(c) + s[i+1:]
	}
	// None of these is a secret of ours: another's, mistyped, and one whose form alone is right.
	const stranger = "sidp_3mWdwZlokdWsgZsWnodmrWmnsghmfiWZmcWsgZsWmnWrdqudqWdudqW3e1AER"
	_, labels := w.report(nil, "ghp_0123456789", flip(w.target.Secret, 30), stranger, forged(w.target.Secret))
	if len(labels) != 4 || slices.ContainsFunc(labels, func(l string) bool { return l != "false_positive" }) {
		t.Errorf("what is no secret of ours is called %v", labels)
	}
	if got := w.status(w.target.ID, w.target.Secret); got != http.StatusOK {
		t.Fatalf("a report of something else ended a credential: %d", got)
	}
	got, labels := w.report(nil, stranger, w.target.Secret)
	if fmt.Sprint(labels) != "[false_positive true_positive]" || got.Header.Get("Audit-Event-Id") == "" {
		t.Fatalf("the labels are %v, the receipt is %q", labels, got.Header.Get("Audit-Event-Id"))
	}
	if strings.Contains(string(got.Body), w.target.Secret) {
		t.Error("the answer repeats the secret")
	}
	if got := w.status(w.target.ID, w.target.Secret); got != http.StatusUnauthorized {
		t.Errorf("a leaked secret answers %d", got)
	}
	if answer := w.Form("/oauth2/introspect", other.ID, other.Secret, url.Values{"token": {held}}); !strings.Contains(string(answer.Body), `"active":false`) {
		t.Errorf("a token got with it is %s", answer.Body)
	}
	if agent := w.Call(http.MethodGet, "/agents/"+w.target.ID, w.admin, "").JSON(t); agent["status"] != "active" {
		t.Errorf("its agent is %v", agent["status"])
	}
	// Reported again it is still ours.
	if _, labels = w.report(nil, w.target.Secret); fmt.Sprint(labels) != "[true_positive]" {
		t.Errorf("reported again it is %v", labels)
	}
	// A policy may say to suspend the agent.
	if answer := w.Call(http.MethodPut, "/rotation-policies/*", w.admin, `{"onLeak":"suspend"}`); answer.Status != http.StatusOK {
		t.Fatalf("setting a policy: %d %s", answer.Status, answer.Body)
	}
	if _, labels = w.report(nil, other.Secret); fmt.Sprint(labels) != "[true_positive]" {
		t.Errorf("the other one is %v", labels)
	}
	if agent := w.Call(http.MethodGet, "/agents/"+other.ID, w.admin, "").JSON(t); agent["status"] != "suspended" {
		t.Errorf("the other agent is %v", agent["status"])
	}
	events := w.Call(http.MethodGet, "/audit/events?action=credential.leaked", w.admin, "")
	for _, want := range []string{`"action":"suspend"`, `"action":"revoke"`, `"wasLive":false`, `"url":"https://git.example/x"`, `"reporter":"k1"`} {
		if !strings.Contains(string(events.Body), want) {
			t.Errorf("the record lacks %s", want)
		}
	}
	if strings.Contains(string(events.Body), "sidp_") || strings.Contains(w.Logs.String(), w.target.Secret) {
		t.Error("the record or the log tells the secret")
	}
}

func TestAReportThatNobodyKnownSignedIsRefused(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(r *http.Request){
		"no signature":      func(r *http.Request) { r.Header.Del("Github-Public-Key-Signature") },
		"no key":            func(r *http.Request) { r.Header.Del("Github-Public-Key-Identifier") },
		"an unknown key":    func(r *http.Request) { r.Header.Set("Github-Public-Key-Identifier", "k2") },
		"another signature": func(r *http.Request) { newReporter(t).sign(r, "[]") },
		"no base64":         func(r *http.Request) { r.Header.Set("Github-Public-Key-Signature", "%%") },
		"a long one":        func(r *http.Request) { r.Header.Set("Github-Public-Key-Signature", strings.Repeat("QUFB", 100)) },
	} {
		if got, _ := w.report(change, w.target.Secret); got.Status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
	}
	if got := w.status(w.target.ID, w.target.Secret); got != http.StatusOK {
		t.Errorf("a forged report ended a credential: %d", got)
	}
	plain := apptest.Start(t, contract) // knows no reporter
	if got := plain.Call(http.MethodPost, "/secrets/leaked", "", `[{"token":"x"}]`); got.Status != http.StatusUnauthorized {
		t.Errorf("without keys: %d", got.Status)
	}
}

func TestACanarySuspendsItsAgentAndLooksLikeAWrongSecret(t *testing.T) {
	w := newWorld(t)
	made := w.Call(http.MethodPost, "/agents/"+w.target.ID+"/credentials", w.admin, `{"label":"in the wiki","canary":true}`).JSON(t)
	canary, id := made["clientSecret"].(string), made["id"].(string)
	token := w.Token(w.target.ID, w.target.Secret, "")
	wrong := w.Form("/oauth2/token", w.target.ID, canary[:len(canary)-1]+"_", url.Values{"grant_type": {"client_credentials"}})
	got := w.Form("/oauth2/token", w.target.ID, canary, url.Values{"grant_type": {"client_credentials"}})
	if got.Status != wrong.Status || string(got.Body) != string(wrong.Body) || got.Header.Get("WWW-Authenticate") != wrong.Header.Get("WWW-Authenticate") {
		t.Errorf("a canary is told from a wrong secret: %d %s, %d %s", got.Status, got.Body, wrong.Status, wrong.Body)
	}
	if agent := w.Call(http.MethodGet, "/agents/"+w.target.ID, w.admin, "").JSON(t); agent["status"] != "suspended" {
		t.Errorf("the agent is %v", agent["status"])
	}
	if got := w.status(w.target.ID, w.target.Secret); got != http.StatusUnauthorized {
		t.Errorf("its own secret answers %d", got)
	}
	if answer := w.Form("/oauth2/introspect", w.AdminID, w.AdminSecret, url.Values{"token": {token}}); !strings.Contains(string(answer.Body), `"active":false`) {
		t.Errorf("its token is %s", answer.Body)
	}
	// Everywhere a secret is taken, and again and again.
	for range 3 {
		for _, path := range []string{"/oauth2/rotate", "/oauth2/introspect", "/oauth2/revoke"} {
			if got := w.Form(path, w.target.ID, canary, url.Values{"token": {token}}); got.Status != http.StatusUnauthorized {
				t.Errorf("%s answers a canary with %d", path, got.Status)
			}
		}
	}
	events := w.Call(http.MethodGet, "/audit/events?action=credential.canary_used", w.admin, "")
	if !strings.Contains(string(events.Body), id) || !strings.Contains(string(events.Body), "in the wiki") {
		t.Errorf("the record does not tell which canary: %s", events.Body)
	}
	if answer := w.Call(http.MethodPost, "/agents/"+w.target.ID+"/credentials/"+id+"/rotate", w.admin, ""); answer.Status != http.StatusConflict {
		t.Errorf("rotating a canary: %d %s", answer.Status, answer.Body)
	}
	if list := w.Call(http.MethodGet, "/agents/"+w.target.ID+"/credentials", w.admin, ""); !strings.Contains(string(list.Body), `"canary":true`) {
		t.Errorf("the list does not tell canaries: %s", list.Body)
	}
}
