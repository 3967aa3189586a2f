package oauth

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// grant is what differs between grant types: it says what an authenticated
// client is allowed. The phases around it cannot be forgotten by a new one.
type grant interface {
	decide(ctx context.Context, client *token.Entry, f form, audience []string) (policy.Decision, error)
}

// clientCredentials is RFC 6749 §4.4.
type clientCredentials struct{ decider policy.Decider }

func (g clientCredentials) decide(ctx context.Context, client *token.Entry, f form, audience []string) (policy.Decision, error) {
	var asked scope.Set
	if text := f.get("scope"); text != "" {
		var err error
		if asked, err = scope.Parse(text); err != nil {
			return policy.Decision{}, invalidScope(err.Error())
		}
	}
	return g.decider.Decide(ctx, policy.Request{
		AgentID: client.Agent.ID, OrganizationID: client.Agent.OrganizationID,
		Capabilities: client.Agent.Capabilities, Asked: asked, Audience: audience,
	})
}

// maxAttempts is how often a decision is made again because the registry moved
// under it.
const maxAttempts = 10

// token is the token endpoint (RFC 6749 §3.2).
func (h *Handler) token(ctx context.Context, headers http.Header, r *http.Request, f form) (answer, error) {
	arrived := h.cfg.Log.Announce()
	defer arrived()
	g, err := h.grant(f)
	if err != nil {
		return nil, err
	}
	audience, err := f.audience()
	if err != nil {
		return nil, err
	}
	p, err := readClient(r, f)
	if err != nil {
		arrived()
		return nil, h.denied(ctx, audit.TokenDenied, "", err)
	}
	check := h.cfg.Authenticator.Authenticate
	for attempt := range maxAttempts {
		client, err := h.authenticate(ctx, p, check)
		if err != nil {
			arrived()
			return nil, h.denied(ctx, audit.TokenDenied, p.clientID, err)
		}
		if attempt == 0 {
			if err := h.limited(ctx, headers, client); err != nil {
				noteClient(ctx, client) // or nobody finds out who it is
				return nil, err
			}
		}
		decision, err := g.decide(ctx, client, f, audience)
		if err != nil {
			return nil, err
		}
		check = h.cfg.Authenticator.AuthenticateAfresh
		if !decision.Allowed {
			if attempt == 0 {
				continue // what is remembered of the agent may be out of date
			}
			arrived()
			return nil, h.outOfScope(ctx, client, f.get("scope"), decision.Reason)
		}
		issued, err := h.cfg.Tokens.Issue(ctx, token.Grant{
			Entry: client, Scope: decision.Scope, Audience: audience, Origin: request.Origin(ctx), Submitted: arrived,
		})
		if errors.Is(err, audit.ErrStale) {
			continue
		}
		if errors.Is(err, token.ErrTooLong) {
			return nil, h.outOfScope(ctx, client, f.get("scope"), "the token would be longer than 8 KiB: ask for fewer scopes")
		}
		if err != nil {
			return nil, err
		}
		noteClient(ctx, client)
		h.cfg.Uses.Note(client.Credential.ID, instanceName(r), request.From(ctx).Source, h.cfg.Now())
		return func(w http.ResponseWriter, r *http.Request) {
			if wantsReceipt(r.Header) {
				w.Header().Set("Audit-Event-Id", issued.EventID.String())
				w.Header().Set("Preference-Applied", receiptPreference)
			}
			wire.Encoded(w, r, http.StatusOK, tokenAnswer(issued))
		}, nil
	}
	return nil, fault.UnavailableBecause(errors.New("the agent changes faster than a token can be issued"))
}

// instanceName is what an instance of an agent calls itself, empty where it says nothing.
func instanceName(r *http.Request) string {
	if all := r.Header["Agent-Instance"]; len(all) == 1 {
		return all[0]
	}
	return ""
}

// receiptPreference asks for the id of the event that records the token (RFC 7240).
const receiptPreference = "audit-receipt"

func wantsReceipt(h http.Header) bool {
	for _, line := range h.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(preference, ";")
			if strings.EqualFold(strings.TrimSpace(name), receiptPreference) {
				return true
			}
		}
	}
	return false
}

// outOfScope records that a client asked for what it may not have, and gives the
// refusal.
func (h *Handler) outOfScope(ctx context.Context, client *token.Entry, asked, reason string) error {
	noteClient(ctx, client)
	if err := h.refuse(ctx, client, audit.TokenDenied, "invalid_scope", audit.Details{}.String("asked", asked)); err != nil {
		return err
	}
	return invalidScope(reason)
}

// tokenAnswer is the answer of RFC 6749 §5.1. It is appended, without
// reflection: every token passes here.
func tokenAnswer(t token.Issued) []byte {
	b := make([]byte, 0, len(t.Token)+256)
	b = audit.AppendText(append(b, `{"access_token":`...), t.Token)
	b = strconv.AppendInt(append(b, `,"token_type":"Bearer","expires_in":`...), int64(t.ExpiresIn/time.Second), 10)
	b = audit.AppendText(append(b, `,"scope":`...), t.Scope.String())
	return append(b, '}')
}

func (h *Handler) grant(f form) (grant, error) {
	name := f.get("grant_type")
	if name == "" {
		return nil, invalidRequest("grant_type is missing")
	}
	g, ok := h.grants[name]
	if !ok {
		return nil, unsupportedGrant()
	}
	return g, nil
}

func asDenial(err error) (*token.Denial, bool) {
	return errors.AsType[*token.Denial](err)
}
