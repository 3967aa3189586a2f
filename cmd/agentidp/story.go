package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/verify"
)

// teller is the story while it is told: it stops at the first step that does not
// come out as it must.
type teller struct {
	ctx    context.Context
	out    *printer
	client *client
	admin  string // a bearer token for the management API
	event  string // the newest event of the agent
}

// tell walks through the main job as a client would.
func tell(ctx context.Context, out *printer, c *client, admin credential.Issued, cfg *config.Config) error {
	out.line("agentidp %s serves %s, data in %s", version(), c.issuer, cfg.DataDir)
	t := &teller{ctx: ctx, out: out, client: c}
	granted, err := c.token(ctx, admin.AgentID.String(), admin.Secret.Value().Reveal(), "agents:read agents:write audit:read tokens:introspect")
	if err != nil {
		return fmt.Errorf("getting a token for the admin agent: %w", err)
	}
	t.admin = granted.AccessToken
	a, err := t.register()
	if err != nil {
		return err
	}
	token, err := t.getToken(a)
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return t.verify(token) },
		func() error { return t.suspend(a, token) },
		func() error { return t.record(a) },
		t.prove,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return out.err
}

func (t *teller) step(n int, title string) {
	t.out.line("")
	t.out.line("%d. %s", n, title)
}

type registered struct {
	ID           string   `json:"id"`
	Email        string   `json:"email"`
	Status       string   `json:"status"`
	Capabilities []string `json:"capabilities"`
	Credential   struct {
		ClientID     string `json:"clientId"`
		ClientSecret string `json:"clientSecret"`
	} `json:"credential"`
}

func (t *teller) register() (registered, error) {
	t.step(1, "Register an agent: POST /agents")
	var suffix [3]byte
	_, _ = rand.Read(suffix[:]) // never fails: crypto/rand ends the process instead
	var a registered
	err := t.client.call(t.ctx, http.MethodPost, "/agents", t.admin, map[string]any{
		"email": "invoice-reader-" + hex.EncodeToString(suffix[:]) + "@sentryagent.ai", "agentType": "invoice-reader", "version": "v1.0.0",
		"capabilities": []string{"invoices:read", "invoices:summarize"}, "owner": "finance", "deploymentEnv": "development",
	}, http.StatusCreated, &a)
	if err != nil {
		return a, fmt.Errorf("registering an agent: %w", err)
	}
	t.out.line("   %s  %s  %s  may %s", a.ID, a.Email, a.Status, strings.Join(a.Capabilities, ", "))
	t.out.line("   its secret, shown this once: %s…", a.Credential.ClientSecret[:len("sidp_")+12])
	return a, nil
}

func (t *teller) getToken(a registered) (string, error) {
	t.step(2, "It gets a token with no more than it asks for: POST /oauth2/token")
	granted, err := t.client.token(t.ctx, a.Credential.ClientID, a.Credential.ClientSecret, "invoices:read")
	if err != nil {
		return "", fmt.Errorf("getting a token: %w", err)
	}
	t.out.line("   %s, scope %q, for %d seconds", granted.TokenType, granted.Scope, granted.ExpiresIn)
	return granted.AccessToken, nil
}

// verify does what a service does that is presented the token: it knows the
// issuer, and finds the keys from there.
func (t *teller) verify(token string) error {
	t.step(3, "A service verifies it with the published keys: GET /.well-known/jwks.json")
	var set jose.JSONWebKeySet
	if err := t.client.call(t.ctx, http.MethodGet, "/.well-known/jwks.json", "", nil, http.StatusOK, &set); err != nil {
		return fmt.Errorf("reading the key set: %w", err)
	}
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.RS256})
	if err != nil {
		return fmt.Errorf("reading the token: %w", err)
	}
	header := parsed.Signatures[0].Protected
	known := set.Key(header.KeyID)
	if len(known) != 1 {
		return fmt.Errorf("the key %s is not published", header.KeyID)
	}
	payload, err := parsed.Verify(known[0])
	if err != nil {
		return fmt.Errorf("verifying the token: %w", err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		return fmt.Errorf("reading the claims: %w", err)
	}
	t.out.line("   %s signature of key %s is good", header.Algorithm, header.KeyID)
	for _, name := range []string{"iss", "sub", "org", "owner", "scope"} {
		t.out.line("   %-6s %v", name, claims[name])
	}
	return nil
}

func (t *teller) suspend(a registered, token string) error {
	t.step(4, "The agent is compromised, switch it off: POST /agents/{agentId}/suspend")
	active, err := t.client.introspect(t.ctx, t.admin, token)
	if err != nil {
		return err
	}
	t.out.line("   before: introspection says active=%t", active)
	var suspended registered
	err = t.client.call(t.ctx, http.MethodPost, "/agents/"+url.PathEscape(a.ID)+"/suspend", t.admin, map[string]any{"reason": "leaked on a laptop"}, http.StatusOK, &suspended)
	if err != nil {
		return fmt.Errorf("suspending the agent: %w", err)
	}
	if active, err = t.client.introspect(t.ctx, t.admin, token); err != nil {
		return err
	}
	t.out.line("   after:  introspection says active=%t", active)
	_, refused := t.client.token(t.ctx, a.Credential.ClientID, a.Credential.ClientSecret, "invoices:read")
	if active || refused == nil {
		return fmt.Errorf("the suspension did not bite: active=%t, refused=%w", active, refused)
	}
	t.out.line("   a new token: %v", refused)
	return nil
}

func (t *teller) record(a registered) error {
	t.step(5, "All of it is on record: GET /audit/events?agentId=…")
	var page struct {
		Items []struct {
			ID       string `json:"id"`
			Sequence int64  `json:"sequence"`
			Time     string `json:"time"`
			Action   string `json:"action"`
			Outcome  string `json:"outcome"`
			Reason   string `json:"reason"`
		} `json:"items"`
	}
	if err := t.client.call(t.ctx, http.MethodGet, "/audit/events?agentId="+url.QueryEscape(a.ID), t.admin, nil, http.StatusOK, &page); err != nil {
		return fmt.Errorf("reading the record: %w", err)
	}
	if len(page.Items) == 0 {
		return errors.New("the record of the agent is empty")
	}
	t.event = page.Items[0].ID
	for _, e := range page.Items {
		t.out.line("   #%-4d %s  %-18s %-8s %s", e.Sequence, e.Time, e.Action, e.Outcome, e.Reason)
	}
	return nil
}

// prove checks the newest event as an outsider would, with the log's public key alone.
func (t *teller) prove() error {
	t.step(6, "Nobody can quietly rewrite it: GET /audit/events/{eventId}/proof")
	key, err := t.client.text(t.ctx, "/audit/key")
	if err != nil {
		return fmt.Errorf("reading the log's key: %w", err)
	}
	log, err := note.NewVerifier(strings.TrimSpace(key))
	if err != nil {
		return fmt.Errorf("reading the log's key: %w", err)
	}
	var answer json.RawMessage
	if err := t.client.call(t.ctx, http.MethodGet, "/audit/events/"+url.PathEscape(t.event)+"/proof", t.admin, nil, http.StatusOK, &answer); err != nil {
		return fmt.Errorf("asking for a proof: %w", err)
	}
	proof, err := verify.ReadInclusion(bytes.NewReader(answer))
	if err != nil {
		return err
	}
	event, checkpoint, err := proof.Verify(log)
	if err != nil {
		return err
	}
	t.out.line("   signed by  %s", log.Name())
	t.out.line("   the log    %d events, root %s", checkpoint.Size, checkpoint.Root)
	t.out.line("   proven     #%d %s, by %d hashes", proof.LeafIndex+1, event.Action, len(proof.Hashes))
	return nil
}
