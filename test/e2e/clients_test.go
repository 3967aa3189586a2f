package e2e_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// clients are libraries written by others. All they know is the issuer.
type clients struct {
	issuer   string
	provider *oidc.Provider
	verifier *oidc.IDTokenVerifier
	jwksURI  string
}

func discover(ctx context.Context, t *testing.T, issuer string) *clients {
	t.Helper()
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		t.Fatalf("discovery: %v", err)
	}
	var metadata struct {
		JWKSURI string `json:"jwks_uri"`
	}
	if err := provider.Claims(&metadata); err != nil {
		t.Fatal(err)
	}
	return &clients{issuer: issuer, provider: provider, verifier: provider.Verifier(&oidc.Config{ClientID: issuer}), jwksURI: metadata.JWKSURI}
}

// source gives tokens as golang.org/x/oauth2 gets them.
func (c *clients) source(ctx context.Context, who credential, style oauth2.AuthStyle) oauth2.TokenSource {
	cfg := clientcredentials.Config{
		ClientID: who.ClientID, ClientSecret: who.ClientSecret, TokenURL: c.provider.Endpoint().TokenURL,
		Scopes: []string{"invoices:read"}, AuthStyle: style,
	}
	return cfg.TokenSource(ctx)
}

// verify lets both libraries verify a token.
func (c *clients) verify(ctx context.Context, token string) error {
	if _, err := c.verifier.Verify(ctx, token); err != nil {
		return errors.Join(errors.New("go-oidc refuses the token"), err)
	}
	set, err := jwk.Fetch(ctx, c.jwksURI)
	if err != nil {
		return err
	}
	_, err = jwt.Parse([]byte(token), jwt.WithKeySet(set), jwt.WithIssuer(c.issuer), jwt.WithAudience(c.issuer))
	return err
}

func TestClientsKnowTheIssuerAlone(t *testing.T) {
	for _, alg := range []string{"ES256", "EdDSA", "RS256"} {
		t.Run(alg, func(t *testing.T) {
			ctx := t.Context()
			s := start(t, t.TempDir(), "JWT_ALG="+alg)
			who := s.register(t, s.token(t, s.first(t), management), "reader").Credential
			c := discover(ctx, t, s.issuer)
			for name, style := range map[string]oauth2.AuthStyle{"header": oauth2.AuthStyleInHeader, "params": oauth2.AuthStyleInParams} {
				got, err := c.source(ctx, who, style).Token()
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if !got.Valid() || got.TokenType != "Bearer" || got.Extra("scope") != "invoices:read" {
					t.Errorf("%s: the token answer is %+v", name, got)
				}
				if err := c.verify(ctx, got.AccessToken); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if h, err := header(got.AccessToken); err != nil || h["alg"] != alg {
					t.Errorf("%s: the header is %v (%v), want alg %s", name, h, err, alg)
				}
				refusesForged(ctx, t, c, got.AccessToken)
			}
			who.ClientSecret = "wrong"
			var refused *oauth2.RetrieveError
			_, err := c.source(ctx, who, oauth2.AuthStyleInHeader).Token()
			if !errors.As(err, &refused) || refused.ErrorCode != "invalid_client" || refused.Response.StatusCode != http.StatusUnauthorized {
				t.Errorf("a wrong secret: %v, want invalid_client and 401", err)
			}
		})
	}
}

// refusesForged changes one claim and keeps the signature.
func refusesForged(ctx context.Context, t *testing.T, c *clients, token string) {
	t.Helper()
	payload, err := claims(token)
	if err != nil {
		t.Fatal(err)
	}
	payload["scope"] = "agents:write"
	raw, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString(raw) + "." + parts[2]
	if _, err := c.verifier.Verify(ctx, forged); err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("go-oidc on a changed payload: %v, want a refusal of the signature", err)
	}
	if err := c.verify(ctx, forged); err == nil {
		t.Error("a changed payload was verified")
	}
}

// requesters get tokens and verify them until they are stopped.
type requesters struct {
	wg       sync.WaitGroup
	stopped  atomic.Bool
	verified atomic.Int64
}

func (r *requesters) start(ctx context.Context, t *testing.T, c *clients, who credential, n int) {
	for range n {
		r.wg.Go(func() {
			for !r.stopped.Load() {
				got, err := c.source(ctx, who, oauth2.AuthStyleInHeader).Token()
				if err != nil {
					t.Errorf("during the rotation no token: %v", err)
					return
				}
				if err := c.verify(ctx, got.AccessToken); err != nil {
					t.Errorf("during the rotation: %v", err)
					return
				}
				r.verified.Add(1)
			}
		})
	}
}

func (r *requesters) stop() {
	r.stopped.Store(true)
	r.wg.Wait()
}

func TestRotationUnderClients(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	s := start(t, dir, "RATE_LIMIT=off")
	who := s.register(t, s.token(t, s.first(t), management), "reader").Credential
	c := discover(ctx, t, s.issuer)
	before := s.token(t, who, "invoices:read")
	oldKID := kid(t, before)

	var load requesters
	load.start(ctx, t, c, who, 4)
	defer load.stop()
	out := mustRun(t, dir, nil, "keys", "rotate", "--activate-in", "2s").stdout
	waitFor(t, "both keys to be published", func() bool {
		set, err := jwk.Fetch(ctx, c.jwksURI)
		return err == nil && set.Len() == 2
	})
	if err := c.verify(ctx, before); err != nil {
		t.Errorf("the old token while both keys are published: %v", err)
	}
	during := load.verified.Load()
	waitFor(t, "a token under the new key", func() bool { return kid(t, s.token(t, who, "invoices:read")) != oldKID })
	newKID := kid(t, s.token(t, who, "invoices:read"))
	if !strings.Contains(out, newKID) {
		t.Errorf("the new key is %s, rotate said %q", newKID, out)
	}
	seen := load.verified.Load()
	waitFor(t, "tokens of the new key to be verified", func() bool { return load.verified.Load() >= seen+20 || t.Failed() })
	load.stop()
	if err := c.verify(ctx, before); err != nil {
		t.Errorf("the old token after the rotation: %v", err)
	}
	if err := discover(ctx, t, s.issuer).verify(ctx, before); err != nil {
		t.Errorf("the old token, to a client that comes new: %v", err)
	}
	listed := mustRun(t, dir, nil, "keys", "list").stdout
	for kid, state := range map[string]string{oldKID: "verifying", newKID: "signing"} {
		if line := lineWith(listed, kid); !strings.Contains(line, " "+state+" ") {
			t.Errorf("keys list has no key %s that is %s:\n%s", kid, state, listed)
		}
	}
	t.Logf("%d tokens were got and verified by both libraries, %d of them by the time both keys were published", load.verified.Load(), during)
}

func kid(t *testing.T, token string) string {
	t.Helper()
	h, err := header(token)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := h["kid"].(string)
	return text
}

func lineWith(text, word string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			return line
		}
	}
	return ""
}
