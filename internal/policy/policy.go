package policy

import (
	"context"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// Caller is who calls the management API, as its token proved it.
type Caller struct {
	audit.Origin
	AgentID        uuid.UUID
	OrganizationID uuid.UUID
	Scopes         scope.Set
}

// Require fails with INSUFFICIENT_SCOPE unless the caller's token carries name.
func (c Caller) Require(name string) error {
	if !c.Scopes.Has(name) {
		return fault.MissingScope(name)
	}
	return nil
}

// MayGrant fails with INSUFFICIENT_SCOPE where the capabilities hold a
// management scope that the caller's own token lacks: nobody hands out more
// than they hold.
func (c Caller) MayGrant(capabilities scope.Set) error {
	for _, name := range capabilities {
		if scope.IsManagement(name) {
			if err := c.Require(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Request asks whether an agent may get a token.
type Request struct {
	AgentID        uuid.UUID
	OrganizationID uuid.UUID
	Capabilities   scope.Set
	// Asked is what the client asked for, nil where it named no scope.
	Asked    scope.Set
	Audience []string
}

// Decision is the scope that is granted, or the reason why none is.
type Decision struct {
	Allowed bool
	Scope   scope.Set
	Reason  string
}

// Decider decides requests for tokens. An error means that no decision could be
// made; it is not a refusal.
type Decider interface {
	Decide(ctx context.Context, r Request) (Decision, error)
}

// Capabilities is the built-in Decider: an agent gets what it asks for within
// its capabilities, and by default all but the management scopes.
type Capabilities struct{}

// Decide never fails.
func (Capabilities) Decide(_ context.Context, r Request) (Decision, error) {
	if r.Asked == nil {
		granted := r.Capabilities.Ordinary()
		if len(granted) == 0 {
			return Decision{Reason: "the agent has management capabilities alone; name the scopes you need"}, nil
		}
		return Decision{Allowed: true, Scope: granted}, nil
	}
	if missing := r.Capabilities.Missing(r.Asked); len(missing) > 0 {
		return Decision{Reason: "the agent has no capability for " + missing.String()}, nil
	}
	return Decision{Allowed: true, Scope: r.Asked}, nil
}
