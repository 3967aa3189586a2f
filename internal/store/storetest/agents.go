package storetest

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

func agentTests() []test {
	return []test{
		{"reads back what was created", agentReadsBack},
		{"an email is taken once per organization", agentEmailTaken},
		{"an archived agent's email stays reserved", agentEmailReserved},
		{"the maximum of agents is a conflict", agentMaximum},
		{"a failed credential leaves no agent", agentWithBadCredential},
		{"another organization sees nothing", agentOfAnother},
		{"an update writes the change and its event", agentUpdated},
		{"a refused update writes nothing", agentUpdateRefused},
		{"an unchanged agent is given and nothing written", agentUnchanged},
		{"an ended agent's credentials are revoked", agentEnded},
	}
}

func agentReadsBack(b *bench) {
	a := b.draft()
	a.Email = "o'brien+%_\"x\"@example.com"
	a.Owner = "Équipe «Платформа» 組 🚀 'q' $1 ?1"
	a.Version = "v10.20.30-rc.1+build.5"
	a.Capabilities = scope.New("files:read", "files:write", "mail:send")
	a.DeploymentEnv = "staging"
	a.Metadata = json.RawMessage(`{"naïve": {"b": [1, 2.50, true, null], "snow": "☃ \" \\ \u2028 🚀"}, "big": 12345678901234567890, "$1": "?1"}`)
	a.TokenTTL = 90 * time.Minute
	a.CreatedAt = time.Date(2026, 1, 2, 3, 4, 5, 999_999_000, time.UTC)
	a.UpdatedAt = a.CreatedAt.Add(time.Microsecond)
	a.Revision = 3
	c := b.credential(a)
	c.Label = "étiquette ☃"
	c.Verifier.Bcrypt = []byte("$2a$10$abc")
	c.ExpiresAt = a.CreatedAt.Add(time.Hour + time.Microsecond)
	before := b.log()
	first, second := b.event(audit.AgentCreated, b.org, a.ID), b.event(audit.CredentialCreated, b.org, a.ID)
	b.must("creating", b.store.CreateAgent(b.Context(), a, c, first, second))
	b.wantSameAgent("the agent", b.agent(a), a)
	wantSame(b, "the credential", b.stored(c), c)
	b.wantNext(before, first, second)
}

func agentEmailTaken(b *bench) {
	a, _ := b.create(b.draft())
	other := b.organization("globex", nil).ID
	b.writesNothing("a taken email", func() {
		again := b.draft()
		again.Email = a.Email
		err := b.store.CreateAgent(b.Context(), again, b.credential(again), b.event(audit.AgentCreated, b.org, again.ID))
		b.wantFault("a taken email", err, fault.CodeAgentExists)
	})
	elsewhere := b.draft()
	elsewhere.Email, elsewhere.OrganizationID = a.Email, other
	b.create(elsewhere)
	b.wantSameAgent("the namesake", b.agent(elsewhere), elsewhere)
}

func agentEmailReserved(b *bench) {
	a, _ := b.create(b.draft())
	b.move(a, agent.Archived, audit.AgentArchived)
	b.writesNothing("the email of an archived agent", func() {
		again := b.draft()
		again.Email = a.Email
		err := b.store.CreateAgent(b.Context(), again, b.credential(again), b.event(audit.AgentCreated, b.org, again.ID))
		b.wantFault("the email of an archived agent", err, fault.CodeAgentExists)
	})
}

func agentMaximum(b *bench) {
	org := b.organization("small", new(int64(2))).ID
	draft := func() agent.Agent {
		a := b.draft()
		a.OrganizationID = org
		return a
	}
	first, _ := b.create(draft())
	b.create(draft())
	b.writesNothing("one agent too many", func() {
		a := draft()
		err := b.store.CreateAgent(b.Context(), a, b.credential(a), b.event(audit.AgentCreated, org, a.ID))
		b.wantFault("one agent too many", err, fault.CodeConflict)
	})
	b.create(b.draft()) // another organization is not touched by the limit
	b.move(first, agent.Archived, audit.AgentArchived)
	b.create(draft()) // an archived agent makes room
}

func agentWithBadCredential(b *bench) {
	_, c := b.create(b.draft())
	b.writesNothing("a credential whose key id is taken", func() {
		a := b.draft()
		bad := b.credential(a)
		bad.KeyID = c.KeyID
		if err := b.store.CreateAgent(b.Context(), a, bad, b.event(audit.AgentCreated, b.org, a.ID)); err == nil {
			b.Error("two credentials share a key id")
		}
	})
}

func agentOfAnother(b *bench) {
	a, c := b.create(b.draft())
	other := b.organization("globex", nil).ID
	ctx := b.Context()
	for _, id := range []struct {
		name    string
		org, id uuid.UUID
	}{{"another organization", other, a.ID}, {"an unknown id", b.org, uuid.New()}, {"an unknown organization", uuid.New(), a.ID}} {
		b.writesNothing(id.name, func() {
			_, err := b.store.Agent(ctx, id.org, id.id)
			b.wantFault("reading an agent, "+id.name, err, fault.CodeAgentNotFound)
			_, err = b.store.UpdateAgent(ctx, id.org, id.id, func(*agent.Agent) (audit.Event, error) {
				b.Error("the change was asked for, " + id.name)
				return audit.Event{}, errChange
			})
			b.wantFault("updating an agent, "+id.name, err, fault.CodeAgentNotFound)
			_, err = b.store.Credential(ctx, id.org, id.id, c.ID)
			b.wantFault("reading a credential, "+id.name, err, fault.CodeAgentNotFound)
			_, err = b.store.Credentials(ctx, id.org, id.id, page.Query{Limit: page.MaxLimit})
			b.wantFault("listing credentials, "+id.name, err, fault.CodeAgentNotFound)
			err = b.store.ChangeCredentials(ctx, id.org, id.id, func(credential.Holder, []credential.Credential) ([]credential.Credential, audit.Event, error) {
				b.Error("the change was asked for, " + id.name)
				return nil, audit.Event{}, errChange
			})
			b.wantFault("changing credentials, "+id.name, err, fault.CodeAgentNotFound)
		})
	}
	for _, f := range []agent.Filter{{}, {Email: a.Email}, {Capability: "files:read"}} {
		p, err := b.store.Agents(ctx, other, f, page.Query{Limit: 10})
		if err != nil || len(p.Items) != 0 {
			b.Errorf("another organization lists %+v, %v with %+v", p.Items, err, f)
		}
	}
}

func agentUpdated(b *bench) {
	want, c := b.create(b.draft())
	bystander, _ := b.create(b.draft())
	for _, change := range []func(*agent.Agent){
		func(a *agent.Agent) {
			a.Type, a.Version, a.Owner, a.DeploymentEnv = "writer", "v2.0.0", "Владелец", "development"
			a.Capabilities = scope.New("mail:send", "files:write")
			a.Metadata, a.TokenTTL = json.RawMessage(`{"k":"ж"}`), time.Hour
		},
		func(a *agent.Agent) { a.Status, a.TokensValidAfter = agent.Suspended, b.clock.Add(7*time.Microsecond) },
		func(a *agent.Agent) {
			a.Status, a.TokenTTL, a.Capabilities = agent.Active, 0, scope.New("files:write", "z:z")
		},
	} {
		before, e := b.log(), b.event(audit.AgentUpdated, b.org, want.ID)
		change(&want)
		want.UpdatedAt = e.Time
		want.Revision++
		given, err := b.store.UpdateAgent(b.Context(), b.org, want.ID, func(a *agent.Agent) (audit.Event, error) {
			change(a)
			a.UpdatedAt = e.Time
			return e, nil
		})
		b.must("updating", err)
		b.wantSameAgent("the agent given", given, want)
		b.wantSameAgent("the agent kept", b.agent(want), want)
		b.wantNext(before, e)
	}
	wantSame(b, "the credential of a live agent", b.stored(c), c)
	b.wantSameAgent("the agent beside it", b.agent(bystander), bystander)
	for capability, n := range map[string]int{"mail:send": 0, "files:read": 1, "files:write": 1, "z:z": 1} {
		if got := b.agents(b.org, agent.Filter{Capability: capability}, 10); len(got) != n {
			b.Errorf("%d agents are found by %s after the updates, want %d", len(got), capability, n)
		}
	}
}

func agentUpdateRefused(b *bench) {
	a, _ := b.create(b.draft())
	refusal := fault.New(fault.Conflict, fault.CodeConflict, "no")
	for _, want := range []error{errChange, refusal} {
		b.writesNothing("a refused update", func() {
			_, err := b.store.UpdateAgent(b.Context(), b.org, a.ID, func(a *agent.Agent) (audit.Event, error) {
				a.Owner, a.Status, a.Capabilities = "never", agent.Revoked, scope.New("never:ever")
				return b.event(audit.AgentRevoked, b.org, a.ID), want
			})
			if !errors.Is(err, want) {
				b.Errorf("the update gave %v, want the error of the change", err)
			}
		})
	}
}

func agentUnchanged(b *bench) {
	a, _ := b.create(b.draft())
	b.writesNothing("an unchanged agent", func() {
		got, err := b.store.UpdateAgent(b.Context(), b.org, a.ID, func(*agent.Agent) (audit.Event, error) {
			return b.event(audit.AgentUpdated, b.org, a.ID), agent.ErrUnchanged
		})
		b.must("an unchanged agent", err)
		b.wantSameAgent("the agent given", got, a)
	})
}

func agentEnded(b *bench) {
	for _, end := range []struct {
		status agent.Status
		action audit.Action
	}{{agent.Revoked, audit.AgentRevoked}, {agent.Archived, audit.AgentArchived}} {
		a, first := b.create(b.draft())
		second := b.add(a, b.credential(a))
		gone := b.credential(a)
		gone.RevokedAt = b.now()
		b.add(a, gone)
		bystander, kept := b.create(b.draft())

		suspended := b.move(a, agent.Suspended, audit.AgentSuspended)
		wantSame(b, "a credential of a suspended agent", b.stored(first), first)
		ended := b.move(suspended, end.status, end.action)
		for _, c := range []credential.Credential{first, second} {
			c.RevokedAt = ended.UpdatedAt
			c.Revision++
			wantSame(b, "a credential of an agent that is "+string(end.status), b.stored(c), c)
		}
		wantSame(b, "a credential revoked before", b.stored(gone), gone)
		wantSame(b, "a credential of the agent beside it", b.stored(kept), kept)
		b.wantSameAgent("the agent beside it", b.agent(bystander), bystander)
		if end.status == agent.Revoked {
			b.move(ended, agent.Archived, audit.AgentArchived)
			if got := b.stored(first); !got.RevokedAt.Equal(ended.UpdatedAt) || got.Revision != first.Revision+1 {
				b.Errorf("archiving a revoked agent revoked its credential again: %+v", got)
			}
		}
	}
}
