package agent

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// Status is where an agent stands in its lifecycle.
type Status string

// The lifecycle (R1). Archived is the end; revoked can only be archived.
const (
	Active    Status = "active"
	Suspended Status = "suspended"
	Revoked   Status = "revoked"
	Archived  Status = "archived"
)

// Agent is one registered agent.
type Agent struct {
	ID             uuid.UUID
	OrganizationID uuid.UUID
	Email          string
	Type           string
	Version        string
	Capabilities   scope.Set
	Owner          string
	DeploymentEnv  string
	Status         Status
	Metadata       json.RawMessage
	// TokenTTL is the agent's own token lifetime, zero where the server's default applies.
	TokenTTL  time.Duration
	CreatedAt time.Time
	UpdatedAt time.Time
	// LastAuthAt is when the agent last obtained a token, zero if it never did.
	LastAuthAt time.Time
	// TokensValidAfter kills every token made before it.
	TokensValidAfter time.Time
	// Revision grows with every change but LastAuthAt; the ETag is made of it.
	Revision int64
}

// Ended reports whether the agent's credentials are dead for good.
func (s Status) Ended() bool { return s == Revoked || s == Archived }

// Target names the agent in an audit event.
func (a Agent) Target() audit.Target {
	return audit.Target{Type: audit.TypeAgent, ID: a.ID.String()}
}

// at fails with PRECONDITION_FAILED unless the agent is at one of the revisions;
// none stand for any.
func (a *Agent) at(revisions []int64) error {
	if len(revisions) > 0 && !slices.Contains(revisions, a.Revision) {
		return fault.New(fault.PreconditionFailed, fault.CodePreconditionFailed, "the agent has changed since it was read")
	}
	return nil
}

// move changes the status, or says why the lifecycle forbids it (CONFLICT).
func (a *Agent) move(to Status, now time.Time) error {
	allowed := false
	switch to {
	case Active:
		allowed = a.Status == Suspended
	case Suspended:
		allowed = a.Status == Active
	case Revoked:
		allowed = a.Status == Active || a.Status == Suspended
	case Archived:
		allowed = a.Status != Archived
	}
	if !allowed {
		return fault.New(fault.Conflict, fault.CodeConflict, "an agent that is "+string(a.Status)+" cannot become "+string(to))
	}
	a.Status = to
	a.UpdatedAt = now
	if to != Active {
		a.killTokens(now)
	}
	return nil
}

// killTokens ends every token made so far. A token's time may lie ahead of this
// node's clock when another node issued it, but never ahead of LastAuthAt.
func (a *Agent) killTokens(now time.Time) {
	after := now
	if !a.LastAuthAt.Before(after) {
		after = a.LastAuthAt.Add(time.Microsecond)
	}
	if after.After(a.TokensValidAfter) {
		a.TokensValidAfter = after
	}
}
