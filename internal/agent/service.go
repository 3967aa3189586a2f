package agent

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// ErrUnchanged is what a change returns when there is nothing to write.
var ErrUnchanged = errors.New("nothing has changed")

// Store keeps the agents.
type Store interface {
	// CreateAgent stores the agent, its first credential and the events in one
	// transaction. AGENT_ALREADY_EXISTS where the email is taken in the
	// organization, CONFLICT where the organization has its maximum of agents.
	CreateAgent(ctx context.Context, a Agent, c credential.Credential, events ...audit.Event) error
	// CreateAgents stores agents of one organization, no two of one email, in one
	// transaction, and gives what is wrong with each, in order: nil where it is stored,
	// else what CreateAgent would say. On an error none is known to be stored.
	CreateAgents(ctx context.Context, organization uuid.UUID, all []New) ([]error, error)
	// AgentsByEmail gives the organization's agents that have one of the emails, in any order;
	// one whose email is named twice may be given twice.
	AgentsByEmail(ctx context.Context, organization uuid.UUID, emails []string) ([]Agent, error)
	// Agent gives one agent of the organization, or AGENT_NOT_FOUND.
	Agent(ctx context.Context, organization, id uuid.UUID) (Agent, error)
	// UpdateAgent reads an agent, lets change alter it, and writes it and the
	// event in one transaction; where change leaves it revoked or archived its
	// credentials are revoked with it. An error of change is returned and nothing
	// is written, but ErrUnchanged gives the agent as it is.
	UpdateAgent(ctx context.Context, organization, id uuid.UUID, change func(*Agent) (audit.Event, error)) (Agent, error)
	// Agents lists an organization's agents, newest first.
	Agents(ctx context.Context, organization uuid.UUID, f Filter, q page.Query) (page.Page[Agent], error)
}

// Filter narrows a list of agents; empty members do not narrow.
type Filter struct {
	Status        Status
	Type          string
	Owner         string
	DeploymentEnv string
	Capability    string
	Email         string
}

// Draft is what a caller says of an agent that is to be made.
type Draft struct {
	Email         string
	Type          string
	Version       string
	Capabilities  []string
	Owner         string
	DeploymentEnv string
	Metadata      json.RawMessage
	TokenTTL      time.Duration
}

// Patch changes the members that are set. Metadata is a merge patch (RFC 7396);
// a TokenTTL of zero takes the agent's own lifetime away.
type Patch struct {
	Type          *string
	Version       *string
	Capabilities  *[]string
	Owner         *string
	DeploymentEnv *string
	Metadata      json.RawMessage
	TokenTTL      *time.Duration
	// IfRevision holds the revisions the caller accepts, none where it does not care.
	IfRevision []int64
}

// Service is the registry's logic.
type Service struct {
	store  Store
	minter *credential.Minter
	maxTTL time.Duration
	now    func() time.Time
}

// NewService makes the service; maxTTL bounds an agent's own token lifetime.
func NewService(store Store, minter *credential.Minter, maxTTL time.Duration, now func() time.Time) *Service {
	return &Service{store: store, minter: minter, maxTTL: maxTTL, now: now}
}

func (s *Service) micros() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// Create registers an agent and makes its first credential. It fails with
// VALIDATION_ERROR, INSUFFICIENT_SCOPE, AGENT_ALREADY_EXISTS or CONFLICT.
func (s *Service) Create(ctx context.Context, by policy.Caller, org uuid.UUID, d Draft) (Agent, credential.Issued, error) {
	a := d.agent()
	if err := s.validate(org, &a); err != nil {
		return Agent{}, credential.Issued{}, err
	}
	if err := by.MayGrant(a.begin(org, Active, s.micros())); err != nil {
		return Agent{}, credential.Issued{}, err
	}
	// Hashing is dear: what can be known before is asked before. The store asks again.
	taken, err := s.store.Agents(ctx, org, Filter{Email: a.Email}, page.Query{Limit: 1})
	if err != nil {
		return Agent{}, credential.Issued{}, err
	}
	if len(taken.Items) > 0 {
		return Agent{}, credential.Issued{}, Exists(a.Email)
	}
	issued, err := s.minter.MintFirst(ctx, org, a.ID, a.Type, credential.Request{})
	if err != nil {
		return Agent{}, credential.Issued{}, err
	}
	if err := s.store.CreateAgent(ctx, a, issued.Credential, a.created(by), issued.Created(by.Origin)); err != nil {
		return Agent{}, credential.Issued{}, err
	}
	return a, issued, nil
}

// Get gives one agent, or AGENT_NOT_FOUND.
func (s *Service) Get(ctx context.Context, org, id uuid.UUID) (Agent, error) {
	return s.store.Agent(ctx, org, id)
}

// List gives a page of the organization's agents, newest first.
func (s *Service) List(ctx context.Context, org uuid.UUID, f Filter, q page.Query) (page.Page[Agent], error) {
	f.Email = lowerEmail(f.Email)
	return s.store.Agents(ctx, org, f, q)
}

// Update applies a patch. It fails with VALIDATION_ERROR, INSUFFICIENT_SCOPE,
// AGENT_NOT_FOUND, PRECONDITION_FAILED, or CONFLICT where the agent has ended.
func (s *Service) Update(ctx context.Context, by policy.Caller, org, id uuid.UUID, p Patch) (Agent, error) {
	if err := s.ValidatePatch(org, p); err != nil {
		return Agent{}, err
	}
	return s.store.UpdateAgent(ctx, org, id, func(a *Agent) (audit.Event, error) {
		had := a.Capabilities
		changed, err := p.apply(a)
		if err != nil {
			return audit.Event{}, err
		}
		if err := by.MayGrant(had.Missing(a.Capabilities)); err != nil {
			return audit.Event{}, err
		}
		if err := a.at(p.IfRevision); err != nil {
			return audit.Event{}, err
		}
		if a.Status.Ended() {
			return audit.Event{}, fault.New(fault.Conflict, fault.CodeConflict, "an agent that is "+string(a.Status)+" cannot be changed")
		}
		if len(changed) == 0 {
			return audit.Event{}, ErrUnchanged
		}
		a.UpdatedAt = s.micros()
		d := audit.Details{}.Strings("changed", changed)
		if p.Capabilities != nil {
			d = d.Strings("capabilities", a.Capabilities).Strings("capabilitiesBefore", had)
		}
		return by.Event(a.UpdatedAt, org, audit.AgentUpdated, a.Target()).About(a.ID).With(d), nil
	})
}

// Suspend stops an agent and ends its tokens; its credentials stay. Where
// revisions are given the agent must be at one of them. It fails with
// VALIDATION_ERROR, AGENT_NOT_FOUND, PRECONDITION_FAILED, or CONFLICT.
func (s *Service) Suspend(ctx context.Context, by policy.Caller, org, id uuid.UUID, reason string, ifRevision ...int64) (Agent, error) {
	return s.moveTo(ctx, by, org, id, Suspended, audit.AgentSuspended, reason, ifRevision)
}

// Reactivate lets a suspended agent get tokens again; the old ones stay dead.
// It fails as Suspend does, and with INSUFFICIENT_SCOPE where the agent holds a
// management scope that the caller lacks: else one compromised agent could bring
// another back.
func (s *Service) Reactivate(ctx context.Context, by policy.Caller, org, id uuid.UUID, reason string, ifRevision ...int64) (Agent, error) {
	return s.moveTo(ctx, by, org, id, Active, audit.AgentReactivated, reason, ifRevision)
}

// Revoke ends an agent, its credentials and tokens for good.
// It fails as Suspend does.
func (s *Service) Revoke(ctx context.Context, by policy.Caller, org, id uuid.UUID, reason string, ifRevision ...int64) (Agent, error) {
	return s.moveTo(ctx, by, org, id, Revoked, audit.AgentRevoked, reason, ifRevision)
}

// Archive takes an agent out of use and keeps it for the audit. Archiving it
// again changes nothing and is no error. It fails with AGENT_NOT_FOUND and
// PRECONDITION_FAILED.
func (s *Service) Archive(ctx context.Context, by policy.Caller, org, id uuid.UUID, ifRevision ...int64) error {
	_, err := s.moveTo(ctx, by, org, id, Archived, audit.AgentArchived, "", ifRevision)
	return err
}

func (s *Service) moveTo(ctx context.Context, by policy.Caller, org, id uuid.UUID, to Status, action audit.Action, reason string, ifRevision []int64) (Agent, error) {
	if err := s.ValidateReason(reason); err != nil {
		return Agent{}, err
	}
	return s.store.UpdateAgent(ctx, org, id, func(a *Agent) (audit.Event, error) {
		if to == Active {
			if err := by.MayGrant(a.Capabilities); err != nil {
				return audit.Event{}, err
			}
		}
		if err := a.at(ifRevision); err != nil {
			return audit.Event{}, err
		}
		from := a.Status
		if from == Archived && to == Archived {
			return audit.Event{}, ErrUnchanged
		}
		now := s.micros()
		if err := a.move(to, now); err != nil {
			return audit.Event{}, err
		}
		return by.Event(now, org, action, a.Target()).About(a.ID).Because(reason).
			With(audit.Details{}.String("from", string(from)).String("to", string(to))), nil
	})
}

func (d Draft) agent() Agent {
	a := Agent{
		Email: lowerEmail(d.Email), Type: d.Type, Version: d.Version, Capabilities: d.Capabilities, Owner: d.Owner,
		DeploymentEnv: d.DeploymentEnv, Metadata: normalized(d.Metadata), TokenTTL: d.TokenTTL,
	}
	if a.Metadata == nil {
		a.Metadata = json.RawMessage("{}")
	}
	return a
}

// begin makes a valid draft an agent that is as yet unknown, and gives its capabilities.
func (a *Agent) begin(org uuid.UUID, status Status, now time.Time) scope.Set {
	if status == "" {
		status = Active
	}
	a.ID, a.OrganizationID, a.Status = uuid.New(), org, status
	a.CreatedAt, a.UpdatedAt, a.Revision = now, now, 1
	a.Capabilities = scope.New(a.Capabilities...)
	return a.Capabilities
}

// created gives the event of the agent's making.
func (a Agent) created(by policy.Caller) audit.Event {
	d := audit.Details{}.
		String("email", a.Email).String("agentType", a.Type).String("version", a.Version).
		Strings("capabilities", a.Capabilities).String("owner", a.Owner).String("deploymentEnv", a.DeploymentEnv)
	if a.Status != Active {
		d = d.String("status", string(a.Status))
	}
	return by.Event(a.CreatedAt, a.OrganizationID, audit.AgentCreated, a.Target()).About(a.ID).With(d)
}

// Exists is the refusal of an email that is taken (AGENT_ALREADY_EXISTS).
func Exists(email string) error { return exists(email) }

func exists(email string) *fault.Error {
	return fault.New(fault.Conflict, fault.CodeAgentExists, "an agent with the email "+email+" exists already")
}
