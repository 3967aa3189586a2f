package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// caller authenticates who calls: a client by its secret, or an agent by a bearer
// token that carries the scope needed, at the moment m.
func (h *Handler) caller(ctx context.Context, m token.Moment, r *http.Request, f form, needed string) (by policy.Caller, client bool, err error) {
	raw, ok := readBearer(r)
	if !ok {
		p, err := readClient(r, f)
		if err != nil {
			return policy.Caller{}, false, h.denied(ctx, audit.AuthorizationDenied, "", err)
		}
		e, err := h.cfg.Authenticator.AuthenticateAt(ctx, m, p.clientID, p.secret, request.From(ctx).SourceIP())
		if err != nil {
			return policy.Caller{}, false, h.denied(ctx, audit.AuthorizationDenied, p.clientID, err)
		}
		noteClient(ctx, e)
		origin := request.Origin(ctx)
		origin.Actor = audit.Actor{Type: audit.TypeAgent, ID: e.AgentID}
		return policy.Caller{Origin: origin, AgentID: e.Agent.ID, OrganizationID: e.Agent.OrganizationID}, true, nil
	}
	if f.get("client_secret") != "" {
		return policy.Caller{}, false, invalidRequest("the client authenticates in more than one way")
	}
	by, err = h.cfg.Verifier.CallerAt(ctx, m, raw, request.Origin(ctx))
	if errors.Is(err, token.ErrInactive) {
		event := request.Origin(ctx).Event(h.cfg.Now(), organization.DefaultID(), audit.AuthorizationDenied, audit.Target{Type: audit.TypeRequest, ID: r.URL.Path}).
			Deny("invalid_token")
		if failed := h.cfg.Denials.Deny(ctx, event); failed != nil {
			err = failed
		}
	}
	if err != nil {
		return policy.Caller{}, false, err
	}
	request.Note(ctx, slog.String("agent", by.AgentID.String()), slog.String("organization", by.OrganizationID.String()))
	if err := by.Require(needed); err != nil {
		event := by.Event(h.cfg.Now(), by.OrganizationID, audit.AuthorizationDenied, audit.Target{Type: audit.TypeRequest, ID: r.URL.Path}).
			About(by.AgentID).Deny("insufficient_scope").With(audit.Details{}.String("scope", needed))
		if failed := h.cfg.Denials.Deny(ctx, event); failed != nil {
			return policy.Caller{}, false, failed
		}
		return policy.Caller{}, false, err
	}
	return by, false, nil
}

// subject gives the token a request is about, nil where it does not hold or is of
// another organization: to the caller there is no difference (RFC 7662 §2.2).
func subject(ctx context.Context, m token.Moment, by policy.Caller, raw string, verify verification) (*token.Token, error) {
	t, err := verify(ctx, m, raw)
	if errors.Is(err, token.ErrInactive) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if t.OrganizationID != by.OrganizationID {
		return nil, nil
	}
	return t, nil
}

// verification is how much of a token must hold.
type verification func(ctx context.Context, m token.Moment, raw string) (*token.Token, error)

// about is what both endpoints begin with: who calls, as a client or not, and the
// token that the request is about.
func (h *Handler) about(ctx context.Context, r *http.Request, f form, needed string, verify verification) (by policy.Caller, client bool, t *token.Token, err error) {
	// Read once: the caller and the token are judged by the same moment.
	m, err := h.cfg.Verifier.Now(ctx)
	if err != nil {
		return by, client, nil, err
	}
	if by, client, err = h.caller(ctx, m, r, f, needed); err != nil {
		return by, client, nil, err
	}
	raw := f.get("token")
	if raw == "" {
		return by, client, nil, invalidRequest("token is missing")
	}
	t, err = subject(ctx, m, by, raw, verify)
	return by, client, t, err
}

// introspect is the introspection endpoint (RFC 7662).
func (h *Handler) introspect(ctx context.Context, _ http.Header, r *http.Request, f form) (answer, error) {
	by, _, t, err := h.about(ctx, r, f, scope.TokensIntrospect, h.cfg.Verifier.VerifyAt)
	if err != nil {
		return nil, err
	}
	if err := h.recordIntrospection(ctx, by, t); err != nil {
		return nil, err
	}
	return func(w http.ResponseWriter, r *http.Request) { wire.Encoded(w, r, http.StatusOK, introspection(t)) }, nil
}

// introspection is the answer of RFC 7662 §2.2 about a token, nil for one that does not
// hold. It is appended: services ask for every request they get.
func introspection(t *token.Token) []byte {
	if t == nil {
		return []byte(`{"active":false}`)
	}
	b := make([]byte, 0, 1024)
	text := func(name, value string) {
		b = append(append(append(b, `,"`...), name...), `":`...)
		b = audit.AppendText(b, value)
	}
	number := func(name string, n int64) {
		b = append(append(append(b, `,"`...), name...), `":`...)
		b = strconv.AppendInt(b, n, 10)
	}
	b = append(b, `{"active":true`...)
	subject := t.AgentID.String()
	text("scope", t.Scope.String())
	text("client_id", subject)
	text("sub", subject)
	b = token.AppendAudience(append(b, `,"aud":`...), t.Audience)
	text("iss", t.Issuer)
	number("exp", t.ExpiresAt)
	number("iat", t.IssuedAt)
	number("nbf", t.NotBefore)
	text("jti", t.ID.String())
	text("token_type", "Bearer")
	text("org", t.OrganizationID.String())
	text("agent_type", t.AgentType)
	text("owner", t.Owner)
	text("deployment_env", t.DeploymentEnv)
	text("cid", t.CredentialID.String())
	return append(b, '}')
}

// recordIntrospection records for the organizations that ask for it.
func (h *Handler) recordIntrospection(ctx context.Context, by policy.Caller, t *token.Token) error {
	o, err := h.cfg.Organizations.Organization(ctx, by.OrganizationID)
	if err != nil || !o.AuditIntrospection {
		return err
	}
	target, about := audit.Target{Type: audit.TypeToken}, uuid.Nil
	if t != nil {
		target.ID, about = t.ID.String(), t.AgentID
	}
	return h.cfg.Log.Append(ctx, by.Event(h.cfg.Now(), by.OrganizationID, audit.TokenIntrospected, target).About(about).
		With(audit.Details{}.Bool("active", t != nil)))
}

// revoke is the revocation endpoint (RFC 7009). A client ends its own tokens, a
// caller with tokens:revoke any of its organization's; whatever else is presented
// is answered alike and has no effect.
func (h *Handler) revoke(ctx context.Context, _ http.Header, r *http.Request, f form) (answer, error) {
	// A token that does not hold at this moment may hold again: it can be revoked.
	by, client, t, err := h.about(ctx, r, f, scope.TokensRevoke, h.cfg.Verifier.SignedAt)
	if err != nil {
		return nil, err
	}
	done := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
	if t == nil {
		return done, nil
	}
	target := audit.Target{Type: audit.TypeToken, ID: t.ID.String()}
	event := by.Event(h.cfg.Now(), t.OrganizationID, audit.TokenRevoked, target).About(t.AgentID)
	if client && t.AgentID != by.AgentID {
		event = by.Event(h.cfg.Now(), t.OrganizationID, audit.AuthorizationDenied, target).About(t.AgentID).Deny("not_the_tokens_client")
		return done, h.cfg.Denials.Deny(ctx, event)
	}
	return done, h.cfg.Revocations.RevokeToken(ctx, t.ID, time.Unix(t.ExpiresAt, 0), event)
}
