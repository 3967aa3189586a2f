package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

func newAgentTests() []test {
	return []test{
		{"many are read back as they were stored", newAgentsReadBack},
		{"one whose email is taken fails alone", newAgentsTaken},
		{"the maximum of agents holds within a batch", newAgentsMaximum},
		{"more than a statement holds", newAgentsMany},
		{"a failure leaves none", newAgentsFailure},
		{"two batches at once store each email once", newAgentsAtOnce},
		{"emails find the organization's own", newAgentsByEmail},
	}
}

// newAgent makes an agent without a credential.
func (b *bench) newAgent() agent.New {
	a := b.draft()
	return agent.New{Agent: a, Events: []audit.Event{b.event(audit.AgentCreated, a.OrganizationID, a.ID)}}
}

func (b *bench) createAll(organization uuid.UUID, all ...agent.New) []error {
	b.Helper()
	errs, err := b.store.CreateAgents(b.Context(), organization, all)
	b.must("creating agents", err)
	if len(errs) != len(all) {
		b.Fatalf("%d answers to %d agents", len(errs), len(all))
	}
	return errs
}

func newAgentsReadBack(b *bench) {
	plain, rich := b.newAgent(), b.newAgent()
	rich.Agent.Capabilities = scope.New("files:read", "files:write", "mail:send")
	rich.Agent.Metadata, rich.Agent.Status = []byte(`{"$1":"?1 ☃"}`), agent.Suspended
	c := b.credential(rich.Agent)
	c.Verifier.Bcrypt = []byte("$2a$10$abc")
	rich.Credential, rich.Events = &c, append(rich.Events, b.event(audit.CredentialCreated, b.org, rich.Agent.ID))
	before, counter := b.log(), b.counter()
	for _, err := range b.createAll(b.org, plain, rich) {
		b.must("storing", err)
	}
	b.wantSameAgent("the plain agent", b.agent(plain.Agent), plain.Agent)
	b.wantSameAgent("the rich agent", b.agent(rich.Agent), rich.Agent)
	wantSame(b, "the credential", b.stored(c), c)
	b.wantNext(before, plain.Events[0], rich.Events[0], rich.Events[1])
	if b.counter() != counter {
		b.Error("new agents moved the change counter: every cached row would have to prove itself anew")
	}
	if found := b.agents(b.org, agent.Filter{Capability: "mail:send", Status: agent.Suspended}, 10); len(found) != 1 || found[0].ID != rich.Agent.ID {
		b.Errorf("the capability leads to %v", found)
	}
}

func newAgentsTaken(b *bench) {
	there, _ := b.create(b.draft())
	taken, free := b.newAgent(), b.newAgent()
	taken.Agent.Email = there.Email
	c := b.credential(taken.Agent)
	taken.Credential = &c
	before := b.log()
	errs := b.createAll(b.org, taken, free)
	b.wantFault("a taken email", errs[0], fault.CodeAgentExists)
	b.must("a free email", errs[1])
	b.wantNext(before, free.Events...)
	_, err := b.store.Agent(b.Context(), b.org, taken.Agent.ID)
	b.wantFault("reading what failed", err, fault.CodeAgentNotFound)
}

func newAgentsMaximum(b *bench) {
	org := b.organization("small", new(int64(3))).ID
	var all []agent.New
	for range 5 {
		one := b.newAgent()
		one.Agent.OrganizationID = org
		all = append(all, one)
	}
	b.must("the first", b.createAll(org, all[0])[0])
	errs := b.createAll(org, all...) // the first takes no room, as it is there
	b.wantFault("the first again", errs[0], fault.CodeAgentExists)
	b.must("the second", errs[1])
	b.must("the third", errs[2])
	b.wantFault("the fourth", errs[3], fault.CodeConflict)
	b.wantFault("the fifth", errs[4], fault.CodeConflict)
	if n := len(b.agents(org, agent.Filter{}, 10)); n != 3 {
		b.Errorf("the organization has %d agents, want its maximum of 3", n)
	}
}

func newAgentsMany(b *bench) {
	const n = 1203
	all := make([]agent.New, n)
	for i := range all {
		all[i] = b.newAgent()
		all[i].Agent.Email = fmt.Sprintf("many-%d@example.com", i)
		all[i].Agent.Capabilities = scope.New("a:a", "b:b", fmt.Sprintf("c:c%d", i))
	}
	before := b.log()
	for _, err := range b.createAll(b.org, all...) {
		b.must("storing", err)
	}
	if events := b.log(); len(events) != len(before)+n {
		b.Errorf("%d events were written, want %d", len(events)-len(before), n)
	}
	last := all[n-1].Agent
	if found := b.agents(b.org, agent.Filter{Capability: last.Capabilities[2]}, 10); len(found) != 1 || found[0].ID != last.ID {
		b.Errorf("the capability of the last leads to %v", found)
	}
}

func newAgentsFailure(b *bench) {
	_, c := b.create(b.draft())
	good, bad := b.newAgent(), b.newAgent()
	clash := b.credential(bad.Agent)
	clash.KeyID = c.KeyID
	bad.Credential = &clash
	b.writesNothing("a credential whose key id is taken", func() {
		if _, err := b.store.CreateAgents(b.Context(), b.org, []agent.New{good, bad}); err == nil {
			b.Error("two credentials share a key id")
		}
	})
	b.writesNothing("an organization that is not there", func() {
		_, err := b.store.CreateAgents(b.Context(), uuid.New(), []agent.New{good})
		b.wantFault("an organization that is not there", err, fault.CodeNotFound)
	})
}

func newAgentsAtOnce(b *bench) {
	const n, crowd = 40, 4
	batches := make([][]agent.New, crowd)
	for i := range batches {
		for k := range n {
			one := b.newAgent()
			one.Agent.Email = fmt.Sprintf("both-%d@example.com", k)
			batches[i] = append(batches[i], one)
		}
		if i%2 == 1 {
			slices.Reverse(batches[i])
		}
	}
	errs := make([][]error, crowd)
	failed := make([]error, crowd)
	var wg sync.WaitGroup
	for i := range batches {
		wg.Go(func() { errs[i], failed[i] = b.store.CreateAgents(b.Context(), b.org, batches[i]) })
	}
	wg.Wait()
	stored := 0
	for i := range batches {
		b.must("a batch of several", failed[i])
		for _, err := range errs[i] {
			if err == nil {
				stored++
				continue
			}
			b.wantFault("an email that another batch has", err, fault.CodeAgentExists)
		}
	}
	if have := len(b.agents(b.org, agent.Filter{}, 100)); stored != n || have != n {
		b.Errorf("%d are said to be stored, %d are, want %d", stored, have, n)
	}
	b.wantDense()
}

func newAgentsByEmail(b *bench) {
	one, _ := b.create(b.draft())
	two, _ := b.create(b.draft())
	elsewhere := b.draft()
	elsewhere.OrganizationID = b.organization("globex", nil).ID
	b.create(elsewhere)
	found, err := b.store.AgentsByEmail(b.Context(), b.org, []string{two.Email, "nobody@example.com", elsewhere.Email, one.Email})
	b.must("reading by email", err)
	slices.SortFunc(found, func(x, y agent.Agent) int { return strings.Compare(x.Email, y.Email) })
	if len(found) != 2 {
		b.Fatalf("found %v", found)
	}
	b.wantSameAgent("the first", found[0], one)
	b.wantSameAgent("the second", found[1], two)
	none, err := b.store.AgentsByEmail(b.Context(), b.org, nil)
	if err != nil || len(none) > 0 {
		b.Errorf("no emails find %v, %v", none, err)
	}
}
