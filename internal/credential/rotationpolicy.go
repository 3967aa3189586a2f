package credential

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

// AnyType stands for the agent types of an organization that have no policy of their own.
const AnyType = "*"

// Bounds on rotation policies.
const (
	// MaxPolicies is how many an organization may have.
	MaxPolicies = 200
	// MaxWarnings is how many warnings there are before an end.
	MaxWarnings = 5

	minPolicyAge = time.Minute
	minWarning   = time.Minute
	maxWarning   = 90 * 24 * time.Hour
	// maxPolicyAge is as long as MaxYears, leap years and all.
	maxPolicyAge = (MaxYears*365 + 1) * 24 * time.Hour
)

// LeakAction is what is done about a secret that was found where it must not be.
type LeakAction string

// What a policy may do: end the credential, or suspend its agent as well.
const (
	LeakRevokes  LeakAction = "revoke"
	LeakSuspends LeakAction = "suspend"
)

// RotationPolicy says how the credentials of an organization's agents of one type are
// rotated (R36).
type RotationPolicy struct {
	OrganizationID uuid.UUID
	// AgentType is a type of agents, or AnyType.
	AgentType string
	// MaxAge is how old a credential may become, zero where it may be of any age.
	MaxAge time.Duration
	// Overlap is how long a credential lives on once its successor is in use.
	Overlap time.Duration
	// WarnBefore is how long before an end it is told of, longest first.
	WarnBefore []time.Duration
	// SelfRotation lets agents without management scopes rotate by themselves.
	SelfRotation bool
	OnLeak       LeakAction
	UpdatedAt    time.Time
	Revision     int64
}

// PolicySource tells which policy holds.
type PolicySource interface {
	// RotationPolicy gives the policy for agents of the type, that of AnyType where the
	// type has none, nil where there is neither.
	RotationPolicy(ctx context.Context, organization uuid.UUID, agentType string) (*RotationPolicy, error)
}

// RotationStore keeps rotation policies, and knows what is due.
type RotationStore interface {
	PolicySource
	// RotationPolicies gives those of an organization, by agent type.
	RotationPolicies(ctx context.Context, organization uuid.UUID) ([]RotationPolicy, error)
	// SetRotationPolicy lets change decide on the policy of exactly this type, nil where
	// there is none, and writes it and the event in one transaction; all it holds for
	// is to be looked at again. CONFLICT where the organization has MaxPolicies. An error
	// of change is returned and nothing is written.
	SetRotationPolicy(ctx context.Context, organization uuid.UUID, agentType string,
		change func(current *RotationPolicy) (RotationPolicy, audit.Event, error)) error
	// RemoveRotationPolicy removes the policy of exactly this type, and writes the event
	// in the same transaction; NOT_FOUND where there is none.
	RemoveRotationPolicy(ctx context.Context, organization uuid.UUID, agentType string, event audit.Event) error
	// ExpiringCredentials lists credentials that are not revoked and end at a time or
	// later and before another, soonest first.
	ExpiringCredentials(ctx context.Context, organization uuid.UUID, from, before time.Time, q page.Query) (page.Page[Credential], error)
}

// defaultWarnings are for agents that have no policy.
func defaultWarnings() []time.Duration { return []time.Duration{7 * 24 * time.Hour, 24 * time.Hour} }

// DefaultPolicy is what a policy says where its maker says nothing.
func DefaultPolicy() RotationPolicy {
	return RotationPolicy{Overlap: DefaultOverlap, WarnBefore: defaultWarnings(), SelfRotation: true, OnLeak: LeakRevokes}
}

// end gives when a credential ends under the policy: where an end was set for it, or
// when it is as old as it may become, whichever comes first. Canaries do not age. A nil
// policy moves no end.
func (p *RotationPolicy) end(c Credential) time.Time {
	if p == nil || p.MaxAge == 0 || c.Canary {
		return c.ExpiresAt
	}
	if end := c.CreatedAt.Add(p.MaxAge); c.ExpiresAt.IsZero() || end.Before(c.ExpiresAt) {
		return end
	}
	return c.ExpiresAt
}

// Apply gives when a credential that is older than the policy ends from now on, and
// whether that is another end than it had. It never ends sooner than is warned of, nor
// than its agent needs to change over; and never later than before.
func (p *RotationPolicy) Apply(c Credential, now time.Time) (end time.Time, changed bool) {
	end = p.end(c)
	if end.Equal(c.ExpiresAt) {
		return end, false
	}
	soonest := now.UTC().Truncate(time.Microsecond).Add(max(p.Overlap, p.WarnBefore[0]))
	if end.Before(soonest) {
		end = soonest
	}
	if !c.ExpiresAt.IsZero() && !end.Before(c.ExpiresAt) {
		return c.ExpiresAt, false
	}
	return end, true
}

// Validate checks a policy's rules (VALIDATION_ERROR).
func (p *RotationPolicy) Validate() error {
	var fields []fault.Field
	wrong := func(field, rule, message string) {
		fields = append(fields, fault.Field{Field: field, Rule: rule, Message: field + " " + message})
	}
	between := func(field string, d, least, most time.Duration, message string) {
		if d < least {
			wrong(field, "minimum", message)
		}
		if d > most {
			wrong(field, "maximum", message)
		}
	}
	if p.MaxAge != 0 {
		between("maxAgeSeconds", p.MaxAge, minPolicyAge, maxPolicyAge, "must be from 60 to 157766400")
	}
	between("overlapSeconds", p.Overlap, 0, MaxOverlap, "must be from 0 to 2592000")
	if len(p.WarnBefore) < 1 {
		wrong("warnBeforeSeconds", "minItems", "must hold at least one time")
	}
	if len(p.WarnBefore) > MaxWarnings {
		wrong("warnBeforeSeconds", "maxItems", "must hold at most five times")
	}
	for _, d := range p.WarnBefore {
		between("warnBeforeSeconds", d, minWarning, maxWarning, "must hold times from 60 to 7776000")
	}
	sorted := slices.Sorted(slices.Values(p.WarnBefore))
	if len(slices.Compact(sorted)) != len(p.WarnBefore) {
		wrong("warnBeforeSeconds", "uniqueItems", "must hold each time once")
	}
	if p.OnLeak != LeakRevokes && p.OnLeak != LeakSuspends {
		wrong("onLeak", "enum", "must be revoke or suspend")
	}
	if len(fields) > 0 {
		return fault.InvalidFields(fields...)
	}
	return nil
}

// Rotation reads and changes rotation policies, and tells what is due.
type Rotation struct {
	store RotationStore
	now   func() time.Time
}

// NewRotation makes the service.
func NewRotation(store RotationStore, now func() time.Time) *Rotation {
	return &Rotation{store: store, now: now}
}

// Expiring gives a page of the credentials of an organization that are not revoked and
// end at from or later and before the other time, which is never where it is zero;
// soonest first.
func (s *Rotation) Expiring(ctx context.Context, organization uuid.UUID, from, before time.Time, q page.Query) (page.Page[Credential], error) {
	if before.IsZero() {
		before = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return s.store.ExpiringCredentials(ctx, organization, from, before, q)
}

// List gives the policies of an organization, by agent type.
func (s *Rotation) List(ctx context.Context, organization uuid.UUID) ([]RotationPolicy, error) {
	return s.store.RotationPolicies(ctx, organization)
}

// Set makes the policy what p says. It fails with VALIDATION_ERROR, and with CONFLICT
// where the organization has MaxPolicies already.
func (s *Rotation) Set(ctx context.Context, by audit.Origin, organization uuid.UUID, p RotationPolicy) (RotationPolicy, error) {
	if err := p.Validate(); err != nil {
		return RotationPolicy{}, err
	}
	slices.SortFunc(p.WarnBefore, func(a, b time.Duration) int { return int(b - a) })
	err := s.store.SetRotationPolicy(ctx, organization, p.AgentType, func(current *RotationPolicy) (RotationPolicy, audit.Event, error) {
		p.OrganizationID, p.UpdatedAt, p.Revision = organization, s.now().UTC().Truncate(time.Microsecond), 1
		if current != nil {
			p.Revision = current.Revision + 1
		}
		return p, by.Event(p.UpdatedAt, organization, audit.RotationPolicySet, policyTarget(p.AgentType)).With(p.details()), nil
	})
	return p, err
}

// Remove takes the policy of exactly this type away. Ends that it gave to credentials
// stay. It fails with NOT_FOUND where there is none.
func (s *Rotation) Remove(ctx context.Context, by audit.Origin, organization uuid.UUID, agentType string) error {
	return s.store.RemoveRotationPolicy(ctx, organization, agentType,
		by.Event(s.now(), organization, audit.RotationPolicyRemoved, policyTarget(agentType)))
}

func policyTarget(agentType string) audit.Target {
	return audit.Target{Type: audit.TypePolicy, ID: agentType}
}

func (p *RotationPolicy) details() audit.Details {
	return audit.Details{}.Int("maxAgeSeconds", seconds(p.MaxAge)).Int("overlapSeconds", seconds(p.Overlap)).
		Bool("selfRotation", p.SelfRotation).String("onLeak", string(p.OnLeak))
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }
