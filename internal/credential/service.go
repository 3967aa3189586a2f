package credential

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
)

// Service generates, rotates and revokes credentials.
type Service struct {
	store  Store
	minter *Minter
	now    func() time.Time
}

// NewService makes the service.
func NewService(store Store, minter *Minter, now func() time.Time) *Service {
	return &Service{store: store, minter: minter, now: now}
}

// Request is what a caller may say of a new credential.
type Request struct {
	Label string
	// ExpiresAt is zero where the credential is not to expire.
	ExpiresAt time.Time
	// Canary says that nobody should ever use it.
	Canary bool
	// Overlap is how long a rotated credential lives on beside its successor.
	Overlap time.Duration
}

// Create makes a further credential for an agent. It fails with
// VALIDATION_ERROR, AGENT_NOT_FOUND, CREDENTIAL_ERROR where the agent has ended
// or has MaxLive already, and INSUFFICIENT_SCOPE where the agent can do more
// than the caller.
func (s *Service) Create(ctx context.Context, by policy.Caller, organization, agentID uuid.UUID, r Request) (Issued, error) {
	if err := s.Validate(r); err != nil {
		return Issued{}, err
	}
	if err := s.allowed(ctx, by, organization, agentID); err != nil {
		return Issued{}, err
	}
	issued, err := s.minter.Mint(ctx, organization, agentID, r.Label, r.ExpiresAt)
	if err != nil {
		return Issued{}, err
	}
	issued.Canary = r.Canary
	err = s.store.ChangeCredentials(ctx, organization, agentID, func(h Holder, live []Credential) ([]Credential, audit.Event, error) {
		if err := mayHoldOneMore(by, h, live, s.now()); err != nil {
			return nil, audit.Event{}, err
		}
		issued.ExpiresAt = h.Policy.end(issued.Credential)
		return []Credential{issued.Credential}, issued.Created(by.Origin), nil
	})
	return issued, err
}

// Rotate makes a successor of a live credential, which lives on for r.Overlap.
// It fails as Create does, with CREDENTIAL_NOT_FOUND, and with CREDENTIAL_ERROR
// where the credential is revoked or has expired.
func (s *Service) Rotate(ctx context.Context, by policy.Caller, organization, agentID, id uuid.UUID, r Request) (Issued, error) {
	if err := s.Validate(r); err != nil {
		return Issued{}, err
	}
	old, err := s.allowedOn(ctx, by, organization, agentID, id)
	if err != nil {
		return Issued{}, err
	}
	if r.Label == "" {
		r.Label = old.Label
	}
	issued, err := s.minter.Mint(ctx, organization, agentID, r.Label, r.ExpiresAt)
	if err != nil {
		return Issued{}, err
	}
	issued.RotatedFrom = id
	err = s.store.ChangeCredentials(ctx, organization, agentID, func(h Holder, live []Credential) ([]Credential, audit.Event, error) {
		now := s.now().UTC().Truncate(time.Microsecond)
		if err := mayHoldOneMore(by, h, live, now); err != nil {
			return nil, audit.Event{}, err
		}
		for _, old := range live {
			if old.ID != id || old.Status(now) != Active {
				continue
			}
			if end := now.Add(r.Overlap); old.ExpiresAt.IsZero() || end.Before(old.ExpiresAt) {
				old.ExpiresAt = end
			}
			old.NotAfter = old.ExpiresAt // whoever holds the old secret makes no more of it
			issued.ExpiresAt = h.Policy.end(issued.Credential)
			event := by.Event(now, organization, audit.CredentialRotated, old.target()).About(agentID).
				With(audit.Details{}.String("successorId", issued.ID.String()).Time("oldExpiresAt", old.ExpiresAt))
			return []Credential{issued.Credential, old}, event, nil
		}
		return nil, audit.Event{}, credentialError("only an active credential can be rotated")
	})
	return issued, err
}

// Revoke ends a credential and the tokens obtained with it. Revoking it again
// changes nothing and is no error. It fails with AGENT_NOT_FOUND and
// CREDENTIAL_NOT_FOUND.
func (s *Service) Revoke(ctx context.Context, by policy.Caller, organization, agentID, id uuid.UUID) error {
	c, err := s.store.Credential(ctx, organization, agentID, id)
	if err != nil || !c.RevokedAt.IsZero() {
		return err
	}
	err = s.store.ChangeCredentials(ctx, organization, agentID, func(_ Holder, live []Credential) ([]Credential, audit.Event, error) {
		now := s.now().UTC().Truncate(time.Microsecond)
		// An expired credential is revoked too: tokens it obtained may still live.
		for _, known := range live {
			if known.ID == id {
				known.RevokedAt, known.Pending = now, false
				return []Credential{known}, by.Event(now, organization, audit.CredentialRevoked, known.target()).About(agentID), nil
			}
		}
		return nil, audit.Event{}, errNothingToWrite // it has been revoked since it was read
	})
	if errors.Is(err, errNothingToWrite) {
		return nil
	}
	return err
}

// Get gives one credential, without anything secret. It fails with
// AGENT_NOT_FOUND and CREDENTIAL_NOT_FOUND.
func (s *Service) Get(ctx context.Context, organization, agentID, id uuid.UUID) (Credential, error) {
	return s.store.Credential(ctx, organization, agentID, id)
}

// List gives a page of an agent's credentials, newest first, without anything
// secret. It fails with AGENT_NOT_FOUND.
func (s *Service) List(ctx context.Context, organization, agentID uuid.UUID, q page.Query) (page.Page[Credential], error) {
	return s.store.Credentials(ctx, organization, agentID, q)
}

// errNothingToWrite ends a transaction that writes nothing and did not fail.
var errNothingToWrite = errors.New("nothing is to be written")

// allowed asks before any hashing is paid for; the transaction asks again.
func (s *Service) allowed(ctx context.Context, by policy.Caller, organization, agentID uuid.UUID) error {
	h, live, err := s.store.Holder(ctx, organization, agentID)
	if err != nil {
		return err
	}
	return mayHoldOneMore(by, h, live, s.now())
}

// allowedOn is allowed for a successor of the credential, which it gives.
func (s *Service) allowedOn(ctx context.Context, by policy.Caller, organization, agentID, id uuid.UUID) (Credential, error) {
	h, live, err := s.store.Holder(ctx, organization, agentID)
	if err != nil {
		return Credential{}, err
	}
	if err := by.MayGrant(h.Capabilities); err != nil {
		return Credential{}, err
	}
	c, err := s.store.Credential(ctx, organization, agentID, id)
	if err != nil {
		return Credential{}, err
	}
	if err := mayHoldOneMore(by, h, live, s.now()); err != nil {
		return Credential{}, err
	}
	if c.Status(s.now()) != Active {
		return Credential{}, credentialError("only an active credential can be rotated")
	}
	if c.Canary {
		return Credential{}, credentialError("a canary is not rotated; make another")
	}
	return c, nil
}

func mayHoldOneMore(by policy.Caller, h Holder, live []Credential, now time.Time) error {
	if err := by.MayGrant(h.Capabilities); err != nil {
		return err
	}
	if h.Ended {
		return credentialError("an agent that is " + h.Status + " cannot get credentials")
	}
	active := 0
	for _, c := range live {
		if c.Status(now) == Active {
			active++
		}
	}
	if active >= MaxLive {
		return tooMany()
	}
	return nil
}

func tooMany() error {
	return credentialError("the agent has 20 active credentials already; revoke one first")
}

// Validate checks a request without making anything (VALIDATION_ERROR).
func (s *Service) Validate(r Request) error { return s.minter.Validate(r) }
