package credential

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/printable"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// Status is what a credential is good for at a moment.
type Status string

// The states of a credential; expired follows from the clock.
const (
	Active  Status = "active"
	Expired Status = "expired"
	Revoked Status = "revoked"
)

// Bounds on credentials.
const (
	// MaxLive is how many credentials of one agent may be active at a time.
	MaxLive = 20
	// MaxLabel is in characters.
	MaxLabel = 64
	// MaxYears, of the calendar, is how long a credential with an end may live.
	MaxYears       = 5
	DefaultOverlap = 24 * time.Hour
	MaxOverlap     = 30 * 24 * time.Hour
)

// Credential is one way for an agent to authenticate.
type Credential struct {
	ID             uuid.UUID
	AgentID        uuid.UUID
	OrganizationID uuid.UUID
	// KeyID stands in the secret, so that the right row is found at once.
	KeyID     string
	Label     string
	Verifier  Verifier
	CreatedAt time.Time
	// ExpiresAt, RevokedAt and LastUsedAt are zero where there is none.
	ExpiresAt   time.Time
	RevokedAt   time.Time
	LastUsedAt  time.Time
	RotatedFrom uuid.UUID
	// NotAfter is an end that somebody set, which no rotation by the agent moves; zero
	// where nobody did, or the end is a rotation policy's.
	NotAfter time.Time
	// Pending marks a successor that its agent made and has not been seen to use.
	Pending bool
	// Canary says that nobody should ever use it: who does, suspends the agent.
	Canary bool
	// RefusedUntil is when a brownout of the credential ends, zero where there is none.
	RefusedUntil time.Time
	// RetireAfter is how long it must be unused to be revoked, zero where it is not to
	// be; RetireSince is when that was asked for.
	RetireAfter time.Duration
	RetireSince time.Time
	Revision    int64
}

// Status gives the state at the time now.
func (c Credential) Status(now time.Time) Status {
	switch {
	case !c.RevokedAt.IsZero():
		return Revoked
	case !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt):
		return Expired
	}
	return Active
}

// Holder is the agent as its credentials see it.
type Holder struct {
	AgentID        uuid.UUID
	OrganizationID uuid.UUID
	AgentType      string
	Status         string
	// Policy is how the agent's credentials are rotated, nil where nobody said.
	Policy *RotationPolicy
	// Ended says that the agent is revoked or archived.
	Ended        bool
	Capabilities scope.Set
}

// Store keeps the credentials.
type Store interface {
	// Holder gives the agent and its live credentials, as ChangeCredentials reads
	// them, to ask what may be changed before it is paid for. It may be out of date
	// when it is given. AGENT_NOT_FOUND where there is no such agent.
	Holder(ctx context.Context, organization, agentID uuid.UUID) (h Holder, live []Credential, err error)
	// ChangeCredentials reads the agent and its live credentials, which are all that
	// are neither revoked nor expired for longer than Forgotten. It lets change
	// decide, more than once where the engine asks for that, and writes what it
	// returns (new or changed, by id, the new one first) and its event in one
	// transaction.
	// AGENT_NOT_FOUND where there is no such agent. An error of change is returned
	// and nothing is written.
	ChangeCredentials(ctx context.Context, organization, agentID uuid.UUID,
		change func(h Holder, live []Credential) ([]Credential, audit.Event, error)) error
	// Credential gives one credential of the agent, or CREDENTIAL_NOT_FOUND;
	// AGENT_NOT_FOUND where there is no such agent.
	Credential(ctx context.Context, organization, agentID, id uuid.UUID) (Credential, error)
	// Credentials lists an agent's credentials, newest first.
	Credentials(ctx context.Context, organization, agentID uuid.UUID, q page.Query) (page.Page[Credential], error)
	// SaveVerifier replaces how a secret is verified, not what it is. It may be
	// called twice.
	SaveVerifier(ctx context.Context, id uuid.UUID, v Verifier) error
}

// Forgotten is how long after its end a credential still counts as live: by then no
// token that it obtained is.
const Forgotten = 48 * time.Hour

// Issued is a new credential with its secret, which is shown this once.
type Issued struct {
	Credential
	Secret Secret
}

// Minter makes credentials.
type Minter struct {
	hasher   *Hasher
	policies PolicySource
	now      func() time.Time
}

// NewMinter makes a minter.
func NewMinter(hasher *Hasher, now func() time.Time) *Minter {
	return &Minter{hasher: hasher, now: now}
}

// Under makes a minter whose first credentials keep to the policies.
func (m *Minter) Under(policies PolicySource) *Minter {
	return &Minter{hasher: m.hasher, policies: policies, now: m.now}
}

// MintFirst is Mint for an agent that is being made: the end is not later than that of the
// policy for its type. It fails with UNAVAILABLE too where that cannot be read.
func (m *Minter) MintFirst(ctx context.Context, organization, agentID uuid.UUID, agentType string, r Request) (Issued, error) {
	var p *RotationPolicy
	if m.policies != nil {
		var err error
		if p, err = m.policies.RotationPolicy(ctx, organization, agentType); err != nil {
			return Issued{}, err
		}
	}
	issued, err := m.Mint(ctx, organization, agentID, r.Label, r.ExpiresAt)
	issued.Canary = r.Canary
	issued.ExpiresAt = p.end(issued.Credential)
	return issued, err
}

// Mint makes a credential for the agent; it stores nothing. The zero expiresAt
// means that it does not expire. It fails with UNAVAILABLE when ctx ends before the
// secret is hashed.
func (m *Minter) Mint(ctx context.Context, organization, agentID uuid.UUID, label string, expiresAt time.Time) (Issued, error) {
	s, err := NewSecret(rand.Reader)
	if err != nil {
		return Issued{}, fmt.Errorf("making a secret: %w", err)
	}
	v, err := m.hasher.Hash(ctx, s)
	if err != nil {
		return Issued{}, fmt.Errorf("hashing a secret: %w", err)
	}
	return Issued{Secret: s, Credential: Credential{
		ID: uuid.New(), AgentID: agentID, OrganizationID: organization, KeyID: s.KeyID(), Label: label,
		Verifier: v, CreatedAt: m.now().UTC().Truncate(time.Microsecond), ExpiresAt: expiresAt, NotAfter: expiresAt, Revision: 1,
	}}, nil
}

// Validate checks a request without making anything (VALIDATION_ERROR).
func (m *Minter) Validate(r Request) error {
	fields := printable.Check("label", r.Label, MaxLabel)
	now := m.now().UTC()
	switch {
	case r.ExpiresAt.IsZero():
	case !r.ExpiresAt.After(now):
		fields = append(fields, fault.Field{Field: "expiresAt", Rule: "future", Message: "expiresAt must lie in the future"})
	case r.ExpiresAt.After(now.AddDate(MaxYears, 0, 0)):
		fields = append(fields, fault.Field{Field: "expiresAt", Rule: "maximum", Message: "expiresAt must lie within five years"})
	}
	if r.Overlap < 0 {
		fields = append(fields, fault.Field{Field: "overlapSeconds", Rule: "minimum", Message: "overlapSeconds must not be negative"})
	}
	if r.Overlap > MaxOverlap {
		fields = append(fields, fault.Field{Field: "overlapSeconds", Rule: "maximum", Message: "overlapSeconds must be at most 2592000"})
	}
	if len(fields) > 0 {
		return fault.InvalidFields(fields...)
	}
	return nil
}

// Created gives the event of a credential's making.
func (c Credential) Created(by audit.Origin) audit.Event {
	d := audit.Details{}.String("label", c.Label)
	if c.Canary {
		d = d.Bool("canary", true)
	}
	if !c.ExpiresAt.IsZero() {
		d = d.Time("expiresAt", c.ExpiresAt)
	}
	return by.Event(c.CreatedAt, c.OrganizationID, audit.CredentialCreated, c.target()).About(c.AgentID).With(d)
}

func (c Credential) target() audit.Target {
	return audit.Target{Type: audit.TypeCredential, ID: c.ID.String()}
}

func credentialError(message string) error {
	return fault.New(fault.Conflict, fault.CodeCredential, message)
}
