package token

import (
	"context"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
)

// Caller gives who presents the token to the product's own interfaces. Only a
// token made for the issuer and nobody else counts: one that another service gets
// to see must not be replayed here by that service. It fails as Verify does.
func (v *Verifier) Caller(ctx context.Context, raw string, origin audit.Origin) (policy.Caller, error) {
	m, err := v.Now(ctx)
	if err != nil {
		return policy.Caller{}, err
	}
	return v.CallerAt(ctx, m, raw, origin)
}

// CallerAt is Caller: the token held at the moment, or later.
func (v *Verifier) CallerAt(ctx context.Context, m Moment, raw string, origin audit.Origin) (policy.Caller, error) {
	t, err := v.VerifyAt(ctx, m, raw)
	if err != nil {
		return policy.Caller{}, err
	}
	if len(t.Audience) != 1 || t.Audience[0] != v.cfg.Issuer {
		return policy.Caller{}, ErrInactive
	}
	origin.Actor = audit.Actor{Type: audit.TypeAgent, ID: t.AgentID.String()}
	return policy.Caller{Origin: origin, AgentID: t.AgentID, OrganizationID: t.OrganizationID, Scopes: t.Scope}, nil
}
