package agent

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
)

// Line is what an import says of one agent.
type Line struct {
	Draft
	// Status is what the agent begins as. Where it is empty a new agent is active, and
	// one that exists may be active or suspended.
	Status Status
	// Credential asks for a first credential; nil asks for none.
	Credential *credential.Request
}

// Outcome is what became of a line.
type Outcome struct {
	// Agent was created or, where the email was taken, has it. It is the zero Agent where
	// the line failed for any other reason.
	Agent   Agent
	Created bool
	// EventID is that of the event that records the creation.
	EventID uuid.UUID
	// Issued is the credential that the line asked for, nil where none was made.
	Issued *credential.Issued
	// Err is why the line failed. It is nil where an agent was created, and where the one
	// that has the email is what the line says.
	Err error
}

// New is an agent that is to be stored, with its first credential, nil where it gets
// none, and the events that record it.
type New struct {
	Agent      Agent
	Credential *credential.Credential
	Events     []audit.Event
}

// Import registers an agent for each line, all in one transaction, and gives what became
// of each, in order. A line fails alone, as Create would; where the email is taken by
// an agent that the line does not describe, the fields of AGENT_ALREADY_EXISTS name what
// differs. What exists is never changed. An error says that no line is known to be stored.
func (s *Service) Import(ctx context.Context, by policy.Caller, org uuid.UUID, lines []Line) ([]Outcome, error) {
	b := &importBatch{service: s, by: by, org: org, lines: lines, agents: make([]Agent, len(lines)), outcomes: make([]Outcome, len(lines))}
	valid := b.check()
	left, err := b.settle(ctx, valid)
	if err != nil || len(left) == 0 {
		return b.outcomes, err
	}
	again, err := b.create(ctx, left)
	if err != nil || len(again) == 0 {
		return b.outcomes, err
	}
	lost, err := b.settle(ctx, again)
	for _, i := range lost { // it failed with the first line of its email
		b.outcomes[i].Err = b.outcomes[b.first(i)].Err
	}
	return b.outcomes, err
}

// importBatch is some lines while they are imported.
type importBatch struct {
	service  *Service
	by       policy.Caller
	org      uuid.UUID
	lines    []Line
	agents   []Agent // what the lines are to be
	outcomes []Outcome
}

// check fails the lines that can never be imported, and gives the others.
func (b *importBatch) check() []int {
	var valid []int
	now := b.service.micros()
	for i, l := range b.lines {
		a, err := l.agent(), b.service.ValidateLine(b.org, l)
		if err == nil {
			err = b.by.MayGrant(a.begin(b.org, l.Status, now))
		}
		if b.outcomes[i].Err = err; err == nil {
			b.agents[i], valid = a, append(valid, i)
		}
	}
	return valid
}

// settle finds the lines whose email is taken, and gives the others.
func (b *importBatch) settle(ctx context.Context, which []int) ([]int, error) {
	if len(which) == 0 {
		return nil, nil
	}
	emails := make([]string, len(which))
	for n, i := range which {
		emails[n] = b.agents[i].Email
	}
	have, err := b.service.store.AgentsByEmail(ctx, b.org, emails)
	if err != nil {
		return nil, err
	}
	byEmail := make(map[string]Agent, len(have))
	for _, a := range have {
		byEmail[a.Email] = a
	}
	var left []int
	for _, i := range which {
		a, taken := byEmail[b.agents[i].Email]
		if !taken {
			left = append(left, i)
			continue
		}
		b.outcomes[i] = Outcome{Agent: a, Err: b.agents[i].sameAs(a, b.lines[i].Status)}
	}
	return left, nil
}

// create stores the agents of these lines, and gives the lines whose email was taken
// meanwhile, or by a line before them.
func (b *importBatch) create(ctx context.Context, which []int) (again []int, err error) {
	var made []int
	var all []New
	for _, i := range which {
		if b.first(i) != i {
			again = append(again, i)
			continue
		}
		one, err := b.prepare(ctx, i)
		if err != nil {
			return nil, err
		}
		made, all = append(made, i), append(all, one)
	}
	errs, err := b.service.store.CreateAgents(ctx, b.org, all)
	if err != nil {
		return nil, err
	}
	for n, i := range made {
		switch {
		case errs[n] == nil:
			b.outcomes[i].Agent, b.outcomes[i].Created, b.outcomes[i].EventID = all[n].Agent, true, all[n].Events[0].ID
		case fault.Is(errs[n], fault.CodeAgentExists):
			b.outcomes[i].Err, again = errs[n], append(again, i)
		default:
			b.outcomes[i].Err = errs[n]
		}
		if errs[n] != nil {
			b.outcomes[i].Issued = nil
		}
	}
	return again, nil
}

// first gives the first line that may be imported and has the email of line i.
func (b *importBatch) first(i int) int {
	return slices.IndexFunc(b.agents, func(a Agent) bool { return a.Email == b.agents[i].Email })
}

// prepare makes the credential that a line asks for, and the events.
func (b *importBatch) prepare(ctx context.Context, i int) (New, error) {
	a, asked := b.agents[i], b.lines[i].Credential
	one := New{Agent: a, Events: []audit.Event{a.created(b.by)}}
	if asked == nil {
		return one, nil
	}
	issued, err := b.service.minter.MintFirst(ctx, b.org, a.ID, a.Type, *asked)
	if err != nil {
		return New{}, err
	}
	b.outcomes[i].Issued = &issued
	one.Credential = &issued.Credential
	one.Events = append(one.Events, issued.Created(b.by.Origin))
	return one, nil
}

// ValidateLine checks a line of an import, as Validate does.
func (s *Service) ValidateLine(org uuid.UUID, l Line) error {
	var r rules
	if f := fault.As(s.Validate(org, l.Draft)); f != nil {
		r.fields = f.Fields
	}
	r.require(l.Status == "" || l.Status == Active || l.Status == Suspended, "status", "enum", "must be active or suspended")
	if l.Credential != nil {
		if f := fault.As(s.minter.Validate(*l.Credential)); f != nil {
			for _, field := range f.Fields {
				r.fields = append(r.fields, fault.Field{Field: "credential." + field.Field, Rule: field.Rule, Message: "credential." + field.Message})
			}
		}
	}
	return r.err()
}

// sameAs fails with AGENT_ALREADY_EXISTS, naming what differs, where the agent that has
// the email is not what a line says.
func (a Agent) sameAs(have Agent, status Status) error {
	var r rules
	same := func(ok bool, field string) {
		r.require(ok, field, "differs", "is another than that of the agent that has the email")
	}
	same(a.Type == have.Type, "agentType")
	same(a.Version == have.Version, "version")
	same(slices.Equal(a.Capabilities, have.Capabilities), "capabilities")
	same(a.Owner == have.Owner, "owner")
	same(a.DeploymentEnv == have.DeploymentEnv, "deploymentEnv")
	same(string(a.Metadata) == string(have.Metadata), "metadata")
	same(a.TokenTTL == have.TokenTTL, "tokenTtlSeconds")
	same(status == have.Status || status == "" && !have.Status.Ended(), "status")
	if len(r.fields) == 0 {
		return nil
	}
	f := exists(a.Email)
	f.Fields = r.fields
	return f
}
