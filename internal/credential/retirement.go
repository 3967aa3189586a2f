package credential

import (
	"context"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Bounds on retirements, in whole seconds.
const (
	MaxBrownout = time.Hour
	minUnused   = time.Minute
	maxUnused   = InstancesKept
	minWithin   = time.Minute

	// DefaultBrownout is how long a brownout lasts, and DefaultWithin how far back uses
	// are looked for, where nobody says.
	DefaultBrownout = time.Minute
	DefaultWithin   = 24 * time.Hour
)

// Retirement takes credentials out of use with their users in sight (R36).
type Retirement struct {
	store     Store
	instances InstanceStore
	now       func() time.Time
}

// NewRetirement makes the service.
func NewRetirement(store Store, instances InstanceStore, now func() time.Time) *Retirement {
	return &Retirement{store: store, instances: instances, now: now}
}

// ValidateWithin checks how far back uses are looked for (VALIDATION_ERROR).
func ValidateWithin(within time.Duration) error {
	return bounds("withinSeconds", within, minWithin, InstancesKept, "withinSeconds must be from 60 to 2592000")
}

// ValidateBrownout checks how long a brownout lasts (VALIDATION_ERROR).
func ValidateBrownout(d time.Duration) error {
	return bounds("durationSeconds", d, 0, MaxBrownout, "durationSeconds must be from 0 to 3600")
}

// ValidateUnused checks how long a credential must be unused (VALIDATION_ERROR); zero
// is never.
func ValidateUnused(d time.Duration) error {
	if d == 0 {
		return nil
	}
	return bounds("unusedForSeconds", d, minUnused, maxUnused, "unusedForSeconds must be from 60 to 2592000")
}

func bounds(field string, d, least, most time.Duration, message string) error {
	if d < least {
		return fault.InvalidField(field, "minimum", message)
	}
	if d > most {
		return fault.InvalidField(field, "maximum", message)
	}
	return nil
}

// Uses tells which instances used the credential within a time, and where they went.
// It fails with VALIDATION_ERROR, AGENT_NOT_FOUND and CREDENTIAL_NOT_FOUND.
func (s *Retirement) Uses(ctx context.Context, organization, agentID, id uuid.UUID, within time.Duration) (Uses, error) {
	if err := ValidateWithin(within); err != nil {
		return Uses{}, err
	}
	if _, err := s.store.Credential(ctx, organization, agentID, id); err != nil {
		return Uses{}, err
	}
	since := s.now().UTC().Add(-within).Truncate(time.Microsecond)
	all, err := s.instances.AgentInstances(ctx, organization, agentID, since)
	if err != nil {
		return Uses{}, err
	}
	return usesOf(all, id, since), nil
}

// Brownout refuses a credential for a while, after which it is good again by itself;
// zero ends a brownout. Tokens that it obtained stay good. It fails with
// VALIDATION_ERROR, AGENT_NOT_FOUND, CREDENTIAL_NOT_FOUND, and with CREDENTIAL_ERROR
// where the credential is not active.
func (s *Retirement) Brownout(ctx context.Context, by audit.Origin, organization, agentID, id uuid.UUID, d time.Duration) (Credential, error) {
	if err := ValidateBrownout(d); err != nil {
		return Credential{}, err
	}
	return s.change(ctx, organization, agentID, id, func(c *Credential, now time.Time) audit.Event {
		c.RefusedUntil = now.Add(d)
		return by.Event(now, organization, audit.CredentialBrownout, c.target()).With(audit.Details{}.Time("until", c.RefusedUntil))
	})
}

// RetireWhenUnused has a credential revoked once nobody has used it for so long, counted
// from now at the earliest; zero takes that back. It fails as Brownout does.
func (s *Retirement) RetireWhenUnused(ctx context.Context, by audit.Origin, organization, agentID, id uuid.UUID, unused time.Duration) (Credential, error) {
	if err := ValidateUnused(unused); err != nil {
		return Credential{}, err
	}
	return s.change(ctx, organization, agentID, id, func(c *Credential, now time.Time) audit.Event {
		c.RetireAfter, c.RetireSince = unused, now
		if unused == 0 {
			c.RetireSince = time.Time{}
		}
		return by.Event(now, organization, audit.CredentialRetiring, c.target()).With(audit.Details{}.Int("unusedForSeconds", seconds(unused)))
	})
}

// change changes one active credential.
func (s *Retirement) change(ctx context.Context, organization, agentID, id uuid.UUID, change func(c *Credential, now time.Time) audit.Event) (Credential, error) {
	if _, err := s.store.Credential(ctx, organization, agentID, id); err != nil {
		return Credential{}, err
	}
	var changed Credential
	err := s.store.ChangeCredentials(ctx, organization, agentID, func(_ Holder, live []Credential) ([]Credential, audit.Event, error) {
		now := s.now().UTC().Truncate(time.Microsecond)
		c, ok := byID(live)[id]
		if !ok || c.Status(now) != Active {
			return nil, audit.Event{}, credentialError("the credential is not active")
		}
		event := change(&c, now).About(agentID)
		changed = c
		return []Credential{c}, event, nil
	})
	return changed, err
}
