package revocation

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// Job is one call that acts on many agents, and how far it has been written.
type Job struct {
	ID             uuid.UUID
	OrganizationID uuid.UUID
	Order
	// By is who asked.
	By audit.Origin
	// Matched counts the agents that the selector means, Changed those of them that the
	// action changes, Written those of these that are written.
	Matched, Changed, Written int64
	// CreatedAt is when it took effect, CompletedAt when the last agent was written; zero
	// before.
	CreatedAt, CompletedAt time.Time
	// Undoes is the suspension that this one undoes, UndoneBy the job that undid this
	// one; uuid.Nil where there is none.
	Undoes, UndoneBy uuid.UUID
	// Receipt is signed proof of what was asked and decided.
	Receipt string

	// Place orders jobs by when they took effect.
	Place int64
	// Term and Holder say which node writes it.
	Term   int64
	Holder string
}

// Completed reports whether every agent is written.
func (j Job) Completed() bool { return !j.CompletedAt.IsZero() }

// Target names the job in an audit event.
func (j Job) Target() audit.Target {
	return audit.Target{Type: audit.TypeRevocation, ID: j.ID.String()}
}

// Event records that what the job did to one agent is written at the time now; it was in
// effect before.
func (j Job) Event(agentID uuid.UUID, from agent.Status, now time.Time) audit.Event {
	action, to := audit.AgentTokensRevoked, from
	switch j.Action {
	case Suspend:
		action, to = audit.AgentSuspended, agent.Suspended
	case Revoke:
		action, to = audit.AgentRevoked, agent.Revoked
	case Reactivate:
		action, to = audit.AgentReactivated, agent.Active
	case Tokens:
	}
	return j.By.Event(now, j.OrganizationID, action, audit.Target{Type: audit.TypeAgent, ID: agentID.String()}).
		About(agentID).Because(j.Reason).
		With(audit.Details{}.String("from", string(from)).String("to", string(to)).String("revocationId", j.ID.String()).Time("effectiveAt", j.CreatedAt))
}

// Radius is what an order would touch.
type Radius struct {
	Matched, Changed int64
	// Credentials counts the live ones of the agents that would change.
	Credentials int64
	// LiveTokenHolders is how many of these agents may hold a token that has not
	// expired, and never less. Nobody counts tokens: they have no rows.
	LiveTokenHolders int64
	// Owners has the owners of these agents, those of most first, at most MaxOwners;
	// OwnersTotal counts all of them.
	Owners      []OwnerShare
	OwnersTotal int64
	// IncludesCaller says that who asks would be hit.
	IncludesCaller bool
}

// MaxOwners bounds the owners that are listed one by one.
const MaxOwners = 100

// OwnerShare is how many agents of an owner would change.
type OwnerShare struct {
	Owner  string
	Agents int64
}

// Start is what a store needs to begin a job.
type Start struct {
	ID             uuid.UUID
	OrganizationID uuid.UUID
	Order
	By audit.Origin
	// Now gives the moment of effect. It is asked when nothing else can commit any more.
	Now func() time.Time
	// Holder is the node that is to write it.
	Holder string
	// Inline is how many agents are written at once, so that a small job is done when it
	// is answered.
	Inline int64
}

// Accept has the last word on a job that is about to take effect: it signs the receipt
// and gives the event, or refuses. brings is the management scopes that agents would get
// back.
type Accept func(j *Job, brings scope.Set) (audit.Event, error)

// ErrLost says that another node writes the job now, or that it is completed.
var ErrLost = errors.New("another node writes this revocation")

// Store keeps the jobs, and makes them take effect.
type Store interface {
	// StartRevocation decides for every agent that the order means and changes, in one
	// transaction with the event. From its commit on every reader sees the agents as
	// they were decided to be, and no token rests on what they were. An error of accept
	// is returned and nothing is written. The claim that ctx carries is kept with it.
	StartRevocation(ctx context.Context, s Start, accept Accept) (Job, error)
	// UndoRevocation does the same for the agents that a suspension, completed and not
	// undone yet, suspended and that were not changed since. NOT_FOUND where there is no
	// such job, CONFLICT where it cannot be undone.
	UndoRevocation(ctx context.Context, id uuid.UUID, s Start, accept Accept) (Job, error)
	// AdvanceRevocation writes the next agents of a job, at most limit, with their
	// events, and completes it after the last. ErrLost where the node is no longer the
	// one that writes it. May be called again after any failure.
	AdvanceRevocation(ctx context.Context, j Job, limit int, now time.Time) (Job, error)
	// OldestRevocation gives the oldest job that is not completed, false where all are.
	OldestRevocation(ctx context.Context) (Job, bool, error)
	// SeizeRevocation lets a node write the job under the next term, or fails with
	// ErrLost.
	SeizeRevocation(ctx context.Context, j Job, holder string) (Job, error)
	// Revocation gives a job of the organization, or NOT_FOUND.
	Revocation(ctx context.Context, organization, id uuid.UUID) (Job, error)
	// Revocations lists an organization's jobs, newest first.
	Revocations(ctx context.Context, organization uuid.UUID, q page.Query) (page.Page[Job], error)
	// Radius counts what an order would touch.
	Radius(ctx context.Context, organization uuid.UUID, o Order, l Lifetimes) (Radius, error)
}

// Lifetimes is what tells which tokens may live at the time Now: those of agents
// without a lifetime of their own at most Usual, all others at most Longest.
type Lifetimes struct {
	Now            time.Time
	Usual, Longest time.Duration
	// Caller is the agent that asks.
	Caller uuid.UUID
}

// UndoWithin is how long after its completion a suspension can be undone: so long the
// agents are remembered.
const UndoWithin = 30 * 24 * time.Hour
