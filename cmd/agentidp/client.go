package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds an answer that is read as a whole, in bytes.
const maxAnswer = 4 << 20

// client calls the server over HTTP, as any client would.
type client struct {
	base    string
	issuer  string
	http    *http.Client
	silence time.Duration // how long a stream may pause
}

type granted struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"`
	Scope       string `json:"scope"`
}

// refusal is an answer that is not the one expected.
type refusal struct {
	status     int
	body       []byte
	retryAfter time.Duration // 0 where the server named none
}

func refused(resp *http.Response, body []byte) *refusal {
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After")) // a date is as good as nothing here
	return &refusal{status: resp.StatusCode, body: body, retryAfter: time.Duration(seconds) * time.Second}
}

// Error gives the status and what the server said.
func (r *refusal) Error() string {
	return fmt.Sprintf("%d %s", r.status, bytes.TrimSpace(r.body))
}

// token is the client credentials grant (RFC 6749 §4.4).
func (c *client) token(ctx context.Context, id, secret, scope string) (granted, error) {
	return c.grant(ctx, id, secret, url.Values{"scope": {scope}})
}

// grant is token with whatever else is asked for.
func (c *client) grant(ctx context.Context, id, secret string, asked url.Values) (granted, error) {
	var g granted
	form := url.Values{"grant_type": {"client_credentials"}}
	maps.Copy(form, asked)
	req, err := c.form(ctx, "/oauth2/token", form)
	if err != nil {
		return g, err
	}
	req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	return g, c.do(req, http.StatusOK, &g)
}

// introspect reports whether a token is active (RFC 7662).
func (c *client) introspect(ctx context.Context, bearer, token string) (bool, error) {
	var answer struct {
		Active bool `json:"active"`
	}
	req, err := c.form(ctx, "/oauth2/introspect", url.Values{"token": {token}})
	if err != nil {
		return false, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	err = c.do(req, http.StatusOK, &answer)
	return answer.Active, err
}

func (c *client) form(ctx context.Context, path string, form url.Values) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, strings.NewReader(form.Encode()))
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, err
}

// call sends JSON and reads JSON.
func (c *client) call(ctx context.Context, method, path, bearer string, body map[string]any, want int, into any) error {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	return c.do(req, want, into)
}

// do sends a request and reads JSON.
func (c *client) do(req *http.Request, want int, into any) error {
	body, err := c.send(req, want)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// text reads a short text that anybody may read.
func (c *client) text(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return "", err
	}
	body, err := c.send(req, http.StatusOK)
	return string(body), err
}

func (c *client) send(req *http.Request, want int) ([]byte, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		return nil, refused(resp, body)
	}
	return body, nil
}
