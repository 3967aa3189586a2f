package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"git.sentryagent.ai/sentryagent-idp/bench/fleet"
	"git.sentryagent.ai/sentryagent-idp/bench/load"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// raw writes a request as it goes over the wire.
func raw(method, path, authorization, mediaType, body string) []byte {
	var b strings.Builder
	b.WriteString(method + " " + path + " HTTP/1.1\r\nHost: localhost:3000\r\nUser-Agent: bench\r\nAccept: application/json\r\n")
	if authorization != "" {
		b.WriteString("Authorization: " + authorization + "\r\n")
	}
	if body != "" {
		b.WriteString("Content-Type: " + mediaType + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n")
	}
	b.WriteString("\r\n" + body)
	return []byte(b.String())
}

const formType = "application/x-www-form-urlencoded"

func basic(m fleet.Member) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(m.ClientID+":"+m.Secret))
}

func grantForm(asked string) string {
	return url.Values{"grant_type": {"client_credentials"}, "scope": {asked}}.Encode()
}

func tokenRequest(m fleet.Member, asked string) []byte {
	return raw(http.MethodPost, "/oauth2/token", basic(m), formType, grantForm(asked))
}

// tokens asks for tokens as the callers of the fleet.
func (t *target) tokens() load.Kind {
	k := load.Kind{Name: "token", Share: 1, Status: http.StatusOK}
	for _, m := range t.members {
		k.Raw = append(k.Raw, tokenRequest(m, fleet.Scope))
	}
	return k
}

// introspections ask about tokens that were issued before, as clients.
func (t *target) introspections() load.Kind {
	k := load.Kind{Name: "introspection", Share: 1, Status: http.StatusOK}
	for i, issued := range t.issued {
		k.Raw = append(k.Raw, raw(http.MethodPost, "/oauth2/introspect", basic(t.members[(i+1)%len(t.members)]), formType, url.Values{"token": {issued}}.Encode()))
	}
	return k
}

// mix is what a deployment may see.
func (t *target) mix() []load.Kind {
	token, introspection := t.tokens(), t.introspections()
	token.Share, introspection.Share = 70, 20
	jwks := load.Kind{Name: "key set", Share: 5, Status: http.StatusOK, Raw: [][]byte{raw(http.MethodGet, "/.well-known/jwks.json", "", "", "")}}
	bearer := "Bearer " + t.managed
	read := load.Kind{Name: "agent, read", Share: 2, Status: http.StatusOK}
	list := load.Kind{Name: "agents, listed", Share: 1, Status: http.StatusOK, Raw: [][]byte{raw(http.MethodGet, "/agents?limit=50", bearer, "", "")}}
	write := load.Kind{Name: "agent, changed", Share: 1, Status: http.StatusOK}
	for i, m := range t.members {
		read.Raw = append(read.Raw, raw(http.MethodGet, "/agents/"+m.ClientID, bearer, "", ""))
		write.Raw = append(write.Raw, raw(http.MethodPatch, "/agents/"+m.ClientID, bearer, "application/merge-patch+json", `{"version":"v1.0.`+strconv.Itoa(i)+`"}`))
	}
	return []load.Kind{token, introspection, jwks, read, list, write, t.wrong()}
}

// wrong asks for tokens with secrets that are well-formed, and another's.
func (t *target) wrong() load.Kind {
	wrong := load.Kind{Name: "wrong secret", Share: 1, Status: http.StatusUnauthorized}
	for i, m := range t.members {
		m.Secret = t.members[(i+len(t.members)/2)%len(t.members)].Secret
		wrong.Raw = append(wrong.Raw, tokenRequest(m, fleet.Scope))
	}
	return wrong
}

// prepare gets the tokens that are asked about, and the one to manage with.
func (t *target) prepare(ctx context.Context) error {
	manager, err := fleet.Nth(0)
	if err != nil {
		return err
	}
	if t.managed, err = t.token(ctx, manager, strings.Join([]string{scope.AgentsRead, scope.AgentsWrite}, " ")); err != nil {
		return err
	}
	for _, m := range t.members {
		issued, err := t.token(ctx, m, fleet.Scope)
		if err != nil {
			return err
		}
		t.issued = append(t.issued, issued)
	}
	return nil
}

func (t *target) token(ctx context.Context, m fleet.Member, asked string) (string, error) {
	body := grantForm(asked)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+t.address+"/oauth2/token", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", formType)
	request.Header.Set("Authorization", basic(m))
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	var read struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(text, &read); err != nil || answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("a token for %s: %s %s", m.ClientID, answer.Status, text)
	}
	return read.AccessToken, nil
}
