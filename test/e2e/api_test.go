package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// management is every management scope there is.
const management = "agents:read agents:write credentials:write tokens:introspect tokens:revoke audit:read organizations:admin"

// api calls a server.
type api struct {
	base string
	http *http.Client
}

func newAPI(base string) api {
	return api{base: base, http: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
}

// reply is an answer that was read to its end.
type reply struct {
	status int
	body   []byte
}

// decode reads the body. It may be called on any goroutine.
func decode[T any](t *testing.T, r reply) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Errorf("reading %q: %v", r.body, err)
	}
	return v
}

func (a api) send(req *http.Request) (reply, error) {
	resp, err := a.http.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return reply{status: resp.StatusCode, body: body}, err
}

// call sends JSON, or nothing where body is nil.
func (a api) call(method, path, bearer string, body any) (reply, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return reply{}, err
		}
		content = bytes.NewReader(encoded)
	}
	req, err := http.NewRequest(method, a.base+path, content)
	if err != nil {
		return reply{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	return a.send(req)
}

// mustCall is call for an answer that must have a certain status.
func (a api) mustCall(t *testing.T, method, path, bearer string, body any, want int) reply {
	t.Helper()
	r, err := a.call(method, path, bearer, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if r.status != want {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, r.status, want, r.body)
	}
	return r
}

// form posts a form, with whatever authorization is given.
func (a api) form(path, authorization string, values url.Values) (reply, error) {
	req, err := http.NewRequest(http.MethodPost, a.base+path, strings.NewReader(values.Encode()))
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return a.send(req)
}

func basic(c credential) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.ClientID+":"+c.ClientSecret))
}

// tokenReply asks for a token and gives the bare answer.
func (a api) tokenReply(c credential, scope string) (reply, error) {
	return a.form("/oauth2/token", basic(c), url.Values{"grant_type": {"client_credentials"}, "scope": {scope}})
}

type tokenAnswer struct {
	AccessToken string `json:"access_token"`
	Scope       string `json:"scope"`
}

// token gets a token.
func (a api) token(t *testing.T, c credential, scope string) string {
	t.Helper()
	r, err := a.tokenReply(c, scope)
	if err != nil || r.status != http.StatusOK {
		t.Fatalf("a token for %s: status %d: %s %v", c.ClientID, r.status, r.body, err)
	}
	return decode[tokenAnswer](t, r).AccessToken
}

// active asks whether a token holds.
func (a api) active(bearer, token string) (bool, error) {
	r, err := a.form("/oauth2/introspect", "Bearer "+bearer, url.Values{"token": {token}})
	if err != nil {
		return false, err
	}
	if r.status != http.StatusOK {
		return false, fmt.Errorf("introspection: %d %s", r.status, r.body)
	}
	var answer struct {
		Active bool `json:"active"`
	}
	err = json.Unmarshal(r.body, &answer)
	return answer.Active, err
}

// registered is an agent as it was registered.
type registered struct {
	ID         string     `json:"id"`
	Status     string     `json:"status"`
	Credential credential `json:"credential"`
}

// draft is the body that registers an agent.
func draft(name string) map[string]any {
	return map[string]any{
		"email": name + "@example.com", "agentType": "reader", "version": "v1.0.0", "capabilities": []string{"invoices:read"},
		"owner": "finance", "deploymentEnv": "development",
	}
}

// register makes an agent that may do invoices:read.
func (a api) register(t *testing.T, bearer, name string) registered {
	t.Helper()
	return decode[registered](t, a.mustCall(t, http.MethodPost, "/agents", bearer, draft(name), http.StatusCreated))
}

// claims reads the payload of a token without verifying it.
func claims(token string) (map[string]any, error) { return part(token, 1) }

// header reads the header of a token.
func header(token string) (map[string]any, error) { return part(token, 0) }

func part(token string, n int) (map[string]any, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("a token of %d parts", len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[n])
	if err != nil {
		return nil, err
	}
	var members map[string]any
	err = json.Unmarshal(raw, &members)
	return members, err
}
