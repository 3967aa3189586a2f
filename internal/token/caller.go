package token

import (
	"context"
	"slices"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
)

// Caller gives who presents the token to the product's own interfaces. Only a
// token made for the issuer itself counts: one made for another service must not
// be replayed here by that service. It fails as Verify does.
func (v *Verifier) Caller(ctx context.Context, raw string, origin audit.Origin) (policy.Caller, error) {
	t, err := v.Verify(ctx, raw)
	if err != nil {
		return policy.Caller{}, err
	}
	if !slices.Contains(t.Audience, v.cfg.Issuer) {
		return policy.Caller{}, ErrInactive
	}
	origin.Actor = audit.Actor{Type: audit.TypeAgent, ID: t.AgentID.String()}
	return policy.Caller{Origin: origin, AgentID: t.AgentID, OrganizationID: t.OrganizationID, Scopes: t.Scope}, nil
}
