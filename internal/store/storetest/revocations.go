package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/revocation"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

func revocationsOfAgentsTests() []test {
	return []test{
		{"a selector matches what it says and nothing of another organization", selectorMatches},
		{"what is decided is seen before it is written", decidedIsSeen},
		{"a token that rests on what an agent was is stale from the decision on", decidedIsStale},
		{"who changes an agent has what was decided written first", changedWhileDecided},
		{"a job is written in steps by whoever holds it", jobInSteps},
		{"jobs overlap in the order of their effect", jobsOverlap},
		{"a suspension is undone where nobody came between", undone},
		{"what cannot be undone is a conflict", notUndone},
		{"tokens end, and later ones do not", tokensEnd},
		{"a refusal of the last word leaves nothing", startRefused},
		{"the radius counts and changes nothing", radiusCounts},
		{"agents of old jobs are forgotten", decisionsForgotten},
		{"jobs are listed newest first, each organization its own", jobsListed},
		{"decisions, tokens and changes at once leave each agent as decided last", decisionsAtOnce},
	}
}

// order starts a job that is written by steps.
func (b *bench) order(action revocation.Action, s revocation.Selector) revocation.Job {
	b.Helper()
	j, err := b.store.StartRevocation(b.Context(), b.begin(action, s, 0), b.accepts())
	b.must("starting a revocation", err)
	return j
}

func (b *bench) begin(action revocation.Action, s revocation.Selector, inline int64) revocation.Start {
	return revocation.Start{
		ID: uuid.New(), OrganizationID: b.org, Order: revocation.Order{Selector: s, Action: action, Reason: "a drill"},
		By:  audit.Origin{Actor: audit.Actor{Type: audit.TypeAgent, ID: "operator"}, RequestID: "request", SourceIP: "192.0.2.1"},
		Now: b.now, Holder: "node", Inline: inline,
	}
}

func (b *bench) accepts() revocation.Accept {
	return func(j *revocation.Job, _ scope.Set) (audit.Event, error) {
		j.Receipt = "signed"
		return j.By.Event(j.CreatedAt, j.OrganizationID, audit.RevocationCreated, j.Target()), nil
	}
}

// finish writes a job to its end, in steps of n.
func (b *bench) finish(j revocation.Job, n int) revocation.Job {
	b.Helper()
	var err error
	for !j.Completed() {
		j, err = b.store.AdvanceRevocation(b.Context(), j, n, b.now())
		b.must("writing a revocation", err)
	}
	return j
}

// crew makes agents that one selector matches.
func (b *bench) crew(n int) ([]agent.Agent, []credential.Credential) {
	b.Helper()
	agents, credentials := make([]agent.Agent, n), make([]credential.Credential, n)
	for i := range n {
		d := b.draft()
		d.Owner = "crew"
		agents[i], credentials[i] = b.create(d)
	}
	return agents, credentials
}

func crewSelector() revocation.Selector { return revocation.Selector{Owner: "crew"} }

// seen gives the status and the revision that everybody sees.
func (b *bench) seen(a agent.Agent) string {
	b.Helper()
	got := b.agent(a)
	return fmt.Sprintf("%s %d", got.Status, got.Revision)
}

func (b *bench) wantSeen(what, want string, agents ...agent.Agent) {
	b.Helper()
	for i, a := range agents {
		if got := b.seen(a); got != want {
			b.Errorf("%s: agent %d is %s, want %s", what, i, got, want)
		}
	}
}

func selectorMatches(b *bench) {
	d := b.draft()
	d.Owner, d.Type, d.DeploymentEnv, d.Capabilities = "ops", "writer", "staging", scope.New("files:write", "files:read")
	one, first := b.create(d)
	two, _ := b.create(b.draft())
	gone, _ := b.create(b.draft())
	b.move(gone, agent.Archived, audit.AgentArchived)
	org := b.org
	b.org = b.organization("globex", nil).ID
	foreign := d
	foreign.ID, foreign.OrganizationID = uuid.New(), b.org
	b.create(foreign)
	b.org = org
	later := b.add(two, b.credential(two))
	all := []agent.Agent{one, two}
	for name, c := range map[string]struct {
		selector revocation.Selector
		want     []agent.Agent
	}{
		"owner":                      {revocation.Selector{Owner: "ops"}, all[:1]},
		"type":                       {revocation.Selector{AgentType: "writer"}, all[:1]},
		"environment":                {revocation.Selector{DeploymentEnv: "production"}, all[1:]},
		"capability":                 {revocation.Selector{Capability: "files:read"}, all},
		"a rarer capability":         {revocation.Selector{Capability: "files:write"}, all[:1]},
		"ids, one of them foreign":   {revocation.Selector{AgentIDs: []uuid.UUID{foreign.ID, two.ID, uuid.New(), gone.ID}}, all[1:]},
		"all at once":                {revocation.Selector{AgentIDs: []uuid.UUID{one.ID, two.ID}, Owner: "ops", AgentType: "writer", DeploymentEnv: "staging", Capability: "files:write"}, all[:1]},
		"what contradicts":           {revocation.Selector{Owner: "ops", DeploymentEnv: "production"}, nil},
		"credentials older than any": {revocation.Selector{IssuedBefore: first.CreatedAt}, nil},
		"credentials older than one": {revocation.Selector{IssuedBefore: first.CreatedAt.Add(time.Microsecond)}, all[:1]},
		"all credentials":            {revocation.Selector{IssuedBefore: later.CreatedAt.Add(time.Hour)}, all},
	} {
		ids := func(agents []agent.Agent) []string {
			got := make([]string, 0, len(agents))
			for _, a := range agents {
				got = append(got, a.ID.String())
			}
			slices.Sort(got)
			return got
		}
		// Who was refused the last word has seen who would be hit.
		stop := errors.New("stop")
		var matched, changed int64
		_, err := b.store.StartRevocation(b.Context(), b.begin(revocation.Suspend, c.selector, 0), func(j *revocation.Job, _ scope.Set) (audit.Event, error) {
			matched, changed = j.Matched, j.Changed
			return audit.Event{}, stop
		})
		if !errors.Is(err, stop) || int(matched) != len(c.want) || changed != matched {
			b.Errorf("%s: %d matched and %d changed, want %v: %v", name, matched, changed, ids(c.want), err)
		}
		r, err := b.store.Radius(b.Context(), b.org, revocation.Order{Selector: c.selector, Action: revocation.Suspend}, revocation.Lifetimes{Now: b.now()})
		if err != nil || int(r.Matched) != len(c.want) {
			b.Errorf("%s: the radius is %+v %v", name, r, err)
		}
	}
}

func decidedIsSeen(b *bench) {
	agents, credentials := b.crew(3)
	bystander, _ := b.create(b.draft())
	late := b.draft()
	late.Owner = "crew"
	before := b.counter()
	j := b.order(revocation.Revoke, crewSelector())
	if j.Matched != 3 || j.Changed != 3 || j.Written != 0 || j.Completed() || b.counter() == before {
		b.Fatalf("the job is %+v, the counter was %d and is %d", j, before, b.counter())
	}
	late, _ = b.create(late)
	b.wantSeen("decided", "revoked 2", agents...)
	b.wantSeen("another's", "active 1", bystander)
	b.wantSeen("registered later", "active 1", late)
	decided := b.agent(agents[0])
	entry, err := b.store.EntryByKeyID(b.Context(), credentials[0].KeyID)
	b.must("reading an entry", err)
	if entry.Agent.Status != agent.Revoked || entry.Agent.Revision != 2 || !entry.Agent.TokensValidAfter.Equal(j.CreatedAt) {
		b.Errorf("the entry of a revoked agent is %+v", entry.Agent)
	}
	holder, _, err := b.store.Holder(b.Context(), b.org, agents[1].ID)
	if err != nil || !holder.Ended {
		b.Errorf("the holder is %+v %v", holder, err)
	}
	for _, a := range b.agents(b.org, agent.Filter{Owner: "crew"}, 10) {
		if want := a.ID == late.ID; want == (a.Status == agent.Revoked) {
			b.Errorf("in the list %s is %s", a.ID, a.Status)
		}
	}
	counter := b.counter()
	if done := b.finish(j, 2); done.Written != 3 {
		b.Errorf("%d were written", done.Written)
	}
	if b.counter() != counter {
		b.Error("writing what everybody saw raised the change counter")
	}
	b.wantSameAgent("written, the agent", b.agent(agents[0]), decided)
	b.wantSeen("written", "revoked 2", agents...)
	if c := b.stored(credentials[2]); !c.RevokedAt.Equal(j.CreatedAt) || c.Revision != 2 {
		b.Errorf("the credential of a revoked agent is %+v", c)
	}
	if got := b.agents(b.org, agent.Filter{Capability: "files:read", Status: agent.Revoked}, 10); len(got) != 3 {
		b.Errorf("%d revoked agents are found by a capability", len(got))
	}
	events := b.wantDense()
	var actions []string
	for _, e := range events[len(events)-7:] {
		actions = append(actions, string(e.Action))
		if e.Action == audit.AgentRevoked && (e.Actor.ID != "operator" || e.Reason != "a drill" || e.RequestID != "request" || !e.Time.After(j.CreatedAt) ||
			!strings.Contains(string(e.Details.JSON()), j.ID.String()) || e.AgentID == uuid.Nil) {
			b.Errorf("the event of an agent is %+v %s", e, e.Details.JSON())
		}
	}
	if want := "revocation.created agent.created credential.created agent.revoked revocation.completed"; strings.Join(slices.Compact(actions), " ") != want {
		b.Errorf("the record says %v", actions)
	}
}

func decidedIsStale(b *bench) {
	agents, credentials := b.crew(2)
	bystander, own := b.create(b.draft())
	record := func(a agent.Agent, c credential.Credential, counter int64, revision int64) audit.Record {
		return audit.Record{Event: b.event(audit.TokenIssued, b.org, a.ID), Basis: &audit.Basis{
			Counter: counter, AgentID: a.ID, AgentRevision: revision, CredentialID: c.ID, CredentialRevision: c.Revision,
		}}
	}
	old := b.counter()
	j := b.order(revocation.Tokens, crewSelector())
	for _, when := range []string{"decided", "written"} {
		batch, err := b.store.AppendRecords(b.Context(), []audit.Record{
			record(agents[0], credentials[0], old, 1), record(bystander, own, old, 1), record(agents[1], credentials[1], old, 2),
		})
		b.must("appending records", err)
		if !batch.Stale[0] || batch.Stale[1] || batch.Stale[2] {
			b.Errorf("%s: stale are %v, want the first", when, batch.Stale)
		}
		j = b.finish(j, 10)
	}
}

func changedWhileDecided(b *bench) {
	agents, credentials := b.crew(4)
	j := b.order(revocation.Suspend, crewSelector())
	back := b.move(agents[0], agent.Active, audit.AgentReactivated)
	if back.Revision != 3 {
		b.Errorf("reactivated, the agent has revision %d, want 3", back.Revision)
	}
	_, err := b.store.UpdateAgent(b.Context(), b.org, agents[1].ID, func(a *agent.Agent) (audit.Event, error) {
		if a.Status != agent.Suspended || a.Revision != 2 {
			b.Errorf("a change sees the agent as %s %d", a.Status, a.Revision)
		}
		a.Owner = "others"
		return b.event(audit.AgentUpdated, b.org, a.ID), nil
	})
	b.must("changing an agent", err)
	_, err = b.store.UpdateAgent(b.Context(), b.org, agents[2].ID, func(*agent.Agent) (audit.Event, error) { return audit.Event{}, agent.ErrUnchanged })
	b.must("changing nothing", err)
	b.add(agents[3], b.credential(agents[3]))
	b.wantSeen("reactivated", "active 3", agents[0])
	b.wantSeen("changed", "suspended 3", agents[1])
	b.wantSeen("left", "suspended 2", agents[2], agents[3])
	running, err := b.store.Revocation(b.Context(), b.org, j.ID)
	if err != nil || running.Written != 3 {
		b.Errorf("of the job %d are written, want 3: %v", running.Written, err)
	}
	if done := b.finish(j, 1); done.Written != 4 {
		b.Errorf("of the job %d are written", done.Written)
	}
	b.wantSeen("completed, reactivated", "active 3", agents[0])
	b.wantSeen("completed, changed", "suspended 3", agents[1])
	b.wantSeen("completed, left", "suspended 2", agents[2], agents[3])
	if got := b.agents(b.org, agent.Filter{Capability: "files:read", Status: agent.Suspended}, 10); len(got) != 3 {
		b.Errorf("%d suspended agents are found by a capability, want 3", len(got))
	}
	var actions []string
	for _, e := range b.wantDense() {
		if e.AgentID == agents[0].ID {
			actions = append(actions, string(e.Action))
		}
	}
	if want := "agent.created credential.created agent.suspended agent.reactivated"; strings.Join(actions, " ") != want {
		b.Errorf("the record of the first says %v", actions)
	}
	if c := b.stored(credentials[0]); !c.RevokedAt.IsZero() {
		b.Error("a suspension revoked a credential")
	}
}

func jobInSteps(b *bench) {
	agents, _ := b.crew(5)
	if _, found, err := b.store.OldestRevocation(b.Context()); found || err != nil {
		b.Errorf("a job is found where there is none: %v", err)
	}
	first, second := b.order(revocation.Suspend, crewSelector()), b.order(revocation.Tokens, revocation.Selector{Owner: "platform"})
	oldest, found, err := b.store.OldestRevocation(b.Context())
	b.must("looking for the oldest", err)
	if !found || oldest.ID != first.ID {
		b.Fatalf("the oldest is %+v", oldest)
	}
	wantSame(b, "the job as it is read", oldest, first)
	if _, err := b.store.AdvanceRevocation(b.Context(), second, 10, b.now()); !errors.Is(err, revocation.ErrLost) {
		b.Errorf("a job is written before an older one: %v", err)
	}
	step, err := b.store.AdvanceRevocation(b.Context(), first, 2, b.now())
	if err != nil || step.Written != 2 || step.Completed() {
		b.Fatalf("after a step: %+v %v", step, err)
	}
	taken, err := b.store.SeizeRevocation(b.Context(), step, "other")
	if err != nil || taken.Holder != "other" || taken.Term != 2 {
		b.Fatalf("seized: %+v %v", taken, err)
	}
	before := b.log()
	for name, do := range map[string]func() error{
		"writing under an old term": func() error {
			_, err := b.store.AdvanceRevocation(b.Context(), step, 2, b.now())
			return err
		},
		"seizing an old term": func() error { _, err := b.store.SeizeRevocation(b.Context(), step, "third"); return err },
	} {
		if err := do(); !errors.Is(err, revocation.ErrLost) {
			b.Errorf("%s: %v", name, err)
		}
	}
	b.wantNext(before)
	done := b.finish(taken, 2)
	if done.Written != 5 {
		b.Errorf("written: %d", done.Written)
	}
	b.wantSeen("completed", "suspended 2", agents...)
	for name, do := range map[string]func() error{
		"writing on": func() error { _, err := b.store.AdvanceRevocation(b.Context(), done, 2, b.now()); return err },
		"seizing it": func() error { _, err := b.store.SeizeRevocation(b.Context(), done, "third"); return err },
	} {
		if err := do(); !errors.Is(err, revocation.ErrLost) {
			b.Errorf("completed, %s: %v", name, err)
		}
	}
	if next, found, err := b.store.OldestRevocation(b.Context()); err != nil || !found || next.ID != second.ID {
		b.Errorf("the next is %+v %v", next, err)
	}
	b.finish(second, 10)
	small, err := b.store.StartRevocation(b.Context(), b.begin(revocation.Revoke, crewSelector(), 5), b.accepts())
	if err != nil || !small.Completed() || small.Written != 5 {
		b.Errorf("a small job: %+v %v", small, err)
	}
	read, err := b.store.Revocation(b.Context(), b.org, small.ID)
	b.must("reading a job", err)
	wantSame(b, "a small job as it is read", read, small)
}
