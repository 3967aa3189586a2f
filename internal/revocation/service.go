package revocation

import (
	"context"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/printable"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// inline is how many agents are written before the answer.
const inline = 100

// Signers gives the key that signs at a time, as keys.Ring does.
type Signers interface {
	Signer(at time.Time) (keys.Signer, error)
}

// Config is what a Service needs.
type Config struct {
	Store Store
	// Issuer signs receipts; it is the iss claim of tokens.
	Issuer  string
	Signers Signers
	Runner  *Runner
	// TokenTTL is how long tokens live where the agent has no lifetime of its own,
	// MaxTokenTTL the longest that any may.
	TokenTTL, MaxTokenTTL time.Duration
	Now                   func() time.Time
}

// Service is the logic of acting on many agents.
type Service struct{ cfg Config }

// NewService makes the service.
func NewService(cfg Config) *Service { return &Service{cfg: cfg} }

func (s *Service) micros() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// Start carries out an order. When it returns, none of the agents gets a token by what
// it was before, on any node; the job that it gives may still have to write them. It
// fails with VALIDATION_ERROR.
func (s *Service) Start(ctx context.Context, by policy.Caller, org uuid.UUID, o Order) (Job, error) {
	if err := s.Validate(o); err != nil {
		return Job{}, err
	}
	j, err := s.cfg.Store.StartRevocation(ctx, s.start(by, org, o), s.accept(by))
	return s.started(j, err)
}

// Undo reactivates the agents that a suspension suspended and that were not changed
// since; their old tokens stay dead. It fails with VALIDATION_ERROR, NOT_FOUND, CONFLICT
// where the job is no suspension, is not completed, was undone or is too old, and with
// INSUFFICIENT_SCOPE where an agent holds a management scope that the caller lacks.
func (s *Service) Undo(ctx context.Context, by policy.Caller, org, id uuid.UUID, reason string) (Job, error) {
	if err := s.ValidateReason(reason); err != nil {
		return Job{}, err
	}
	j, err := s.cfg.Store.UndoRevocation(ctx, id, s.start(by, org, Order{Action: Reactivate, Reason: reason}), s.accept(by))
	return s.started(j, err)
}

// ValidateReason checks why something is undone (VALIDATION_ERROR).
func (s *Service) ValidateReason(reason string) error {
	if wrong := printable.Check("reason", reason, agent.MaxReason); len(wrong) > 0 {
		return fault.InvalidFields(wrong...)
	}
	return nil
}

// Radius counts what an order would touch, and does nothing. It fails with
// VALIDATION_ERROR.
func (s *Service) Radius(ctx context.Context, by policy.Caller, org uuid.UUID, o Order) (Radius, error) {
	if err := s.Validate(o); err != nil {
		return Radius{}, err
	}
	return s.cfg.Store.Radius(ctx, org, o, Lifetimes{Now: s.micros(), Usual: s.cfg.TokenTTL, Longest: s.cfg.MaxTokenTTL, Caller: by.AgentID})
}

// Get gives one job, or NOT_FOUND.
func (s *Service) Get(ctx context.Context, org, id uuid.UUID) (Job, error) {
	return s.cfg.Store.Revocation(ctx, org, id)
}

// List gives a page of the organization's jobs, newest first.
func (s *Service) List(ctx context.Context, org uuid.UUID, q page.Query) (page.Page[Job], error) {
	return s.cfg.Store.Revocations(ctx, org, q)
}

func (s *Service) start(by policy.Caller, org uuid.UUID, o Order) Start {
	return Start{ID: uuid.New(), OrganizationID: org, Order: o, By: by.Origin, Now: s.micros, Holder: s.cfg.Runner.Name(), Inline: inline}
}

// accept refuses to bring back what is stronger than the caller, and records the rest.
func (s *Service) accept(by policy.Caller) Accept {
	return func(j *Job, brings scope.Set) (audit.Event, error) {
		if err := by.MayGrant(brings); err != nil {
			return audit.Event{}, err
		}
		details := audit.Details{}.String("action", string(j.Action)).Int("matched", j.Matched).Int("changed", j.Changed)
		if j.Undoes != uuid.Nil {
			details = details.String("undoes", j.Undoes.String())
		} else {
			details = details.String("selector", j.Selector.String())
		}
		event := by.Event(j.CreatedAt, j.OrganizationID, audit.RevocationCreated, j.Target()).Because(j.Reason).With(details)
		var err error
		j.Receipt, err = s.receipt(*j, event.ID)
		return event, err
	}
}

// started wakes the runner where there is something left to write.
func (s *Service) started(j Job, err error) (Job, error) {
	if err == nil && !j.Completed() {
		s.cfg.Runner.Wake()
	}
	return j, err
}
