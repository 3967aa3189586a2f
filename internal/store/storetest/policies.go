package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

func policyTests() []test {
	return []test{
		{"a policy reads back, and the nearest one holds", policiesRead},
		{"a change of a policy sees what there was", policyChanged},
		{"an organization has no more policies than the bound", policiesBounded},
		{"a policy is applied to all it holds for, and to nobody else", policyApplied},
		{"of many who apply a policy each change is made once", policyAppliedOnce},
	}
}

// policy makes one of the bench's organization without storing it.
func (b *bench) policy(agentType string) credential.RotationPolicy {
	p := credential.DefaultPolicy()
	p.OrganizationID, p.AgentType, p.MaxAge, p.UpdatedAt, p.Revision = b.org, agentType, 90*day, b.now(), 1
	return p
}

func (b *bench) setPolicy(p credential.RotationPolicy) audit.Event {
	b.Helper()
	e := b.event(audit.RotationPolicySet, p.OrganizationID, uuid.Nil)
	b.must("setting a policy", b.store.SetRotationPolicy(b.Context(), p.OrganizationID, p.AgentType,
		func(*credential.RotationPolicy) (credential.RotationPolicy, audit.Event, error) { return p, e, nil }))
	return e
}

func (b *bench) wantPolicy(what, agentType string, want *credential.RotationPolicy) {
	b.Helper()
	got, err := b.store.RotationPolicy(b.Context(), b.org, agentType)
	b.must("reading a policy", err)
	wantSame(b, what, got, want)
}

func policiesRead(b *bench) {
	b.wantPolicy("the policy of nobody", "reader", nil)
	every, readers := b.policy(credential.AnyType), b.policy("reader")
	every.MaxAge, every.OnLeak, every.SelfRotation = 0, credential.LeakSuspends, false
	readers.WarnBefore, readers.Overlap = []time.Duration{30 * day, time.Hour, time.Minute}, 0
	before := b.log()
	e1, e2 := b.setPolicy(every), b.setPolicy(readers)
	b.wantNext(before, e1, e2)
	b.wantPolicy("the readers'", "reader", &readers)
	b.wantPolicy("the writers'", "writer", &every)
	all, err := b.store.RotationPolicies(b.Context(), b.org)
	b.must("listing", err)
	wantSame(b, "the policies", all, []credential.RotationPolicy{every, readers})
	none, err := b.store.RotationPolicies(b.Context(), b.organization("globex", nil).ID)
	if err != nil || len(none) != 0 {
		b.Errorf("another organization has %v, %v", none, err)
	}
	a, _ := b.create(b.draft())
	h, _, err := b.store.Holder(b.Context(), b.org, a.ID)
	b.must("reading a holder", err)
	wantSame(b, "the holder's policy", h.Policy, &readers)

	before = b.log()
	gone := b.event(audit.RotationPolicyRemoved, b.org, uuid.Nil)
	b.must("removing", b.store.RemoveRotationPolicy(b.Context(), b.org, "reader", gone))
	b.wantNext(before, gone)
	b.wantPolicy("what is left", "reader", &every)
	b.writesNothing("removing nothing", func() {
		b.wantFault("removing it again", b.store.RemoveRotationPolicy(b.Context(), b.org, "reader", gone), fault.CodeNotFound)
	})
}

func policyChanged(b *bench) {
	p := b.policy("reader")
	b.setPolicy(p)
	b.setPolicy(b.policy(credential.AnyType))
	err := b.store.SetRotationPolicy(b.Context(), b.org, "reader", func(current *credential.RotationPolicy) (credential.RotationPolicy, audit.Event, error) {
		wantSame(b, "the policy there was", current, &p)
		return credential.RotationPolicy{}, audit.Event{}, errChange
	})
	if err != errChange { //nolint:errorlint // it is given back bare
		b.Errorf("the change gave %v", err)
	}
	b.wantPolicy("the policy", "reader", &p)
	p.MaxAge, p.Revision = 0, 2
	b.setPolicy(p)
	b.wantPolicy("the changed policy", "reader", &p)
}

func policiesBounded(b *bench) {
	for i := range credential.MaxPolicies {
		b.setPolicy(b.policy(fmt.Sprintf("type-%d", i)))
	}
	b.setPolicy(b.policy("type-7")) // there already
	err := b.store.SetRotationPolicy(b.Context(), b.org, "one-more", func(*credential.RotationPolicy) (credential.RotationPolicy, audit.Event, error) {
		return b.policy("one-more"), b.event(audit.RotationPolicySet, b.org, uuid.Nil), nil
	})
	b.wantFault("one more", err, fault.CodeConflict)
}

// apply applies what is to be applied in steps of a few agents.
func (b *bench) apply(limit int, now time.Time) {
	b.Helper()
	for {
		more, err := b.store.ApplyRotationPolicy(b.Context(), limit,
			func(p credential.RotationPolicy, c credential.Credential) (time.Time, bool) { return p.Apply(c, now) },
			func(p credential.RotationPolicy, changed []credential.Credential) audit.Event {
				return audit.System("suite").Event(now, p.OrganizationID, audit.RotationPolicyApplied, audit.Target{Type: audit.TypePolicy, ID: p.AgentType}).
					With(audit.Details{}.Int("count", int64(len(changed))))
			})
		b.must("applying", err)
		if !more {
			return
		}
	}
}

func policyApplied(b *bench) {
	var readers, writers []agent.Agent
	for range 5 {
		a, _ := b.create(b.draft())
		readers = append(readers, a)
		d := b.draft()
		d.Type = "writer"
		a, _ = b.create(d)
		writers = append(writers, a)
	}
	set := b.credential(readers[0])
	set.ExpiresAt = set.CreatedAt.Add(10 * day) // sooner than the policy wants
	set.NotAfter = set.ExpiresAt
	b.add(readers[0], set)
	canary, dead := b.credential(readers[1]), b.credential(readers[2])
	canary.Canary, dead.RevokedAt = true, b.now()
	b.add(readers[1], canary)
	b.add(readers[2], dead)
	foreign := b.draft()
	foreign.OrganizationID = b.organization("globex", nil).ID
	other, _ := b.create(foreign)

	p := b.policy("reader")
	b.setPolicy(p)
	counter := b.counter()
	now := b.now()
	b.apply(2, now)
	if b.counter() == counter {
		b.Error("what is remembered of the credentials still seems to hold")
	}
	ends := func(agents ...agent.Agent) (all []time.Time) {
		for _, a := range agents {
			page, err := b.store.Credentials(b.Context(), a.OrganizationID, a.ID, pageOf(50))
			b.must("reading credentials", err)
			for _, c := range slices.Backward(page.Items) {
				if c.RevokedAt.IsZero() && !c.Canary {
					all = append(all, c.ExpiresAt)
				}
			}
		}
		return all
	}
	for i, end := range ends(readers...) {
		if i == 1 && !end.Equal(set.ExpiresAt) || i != 1 && (end.IsZero() || end.Before(now.Add(80*day)) || end.After(now.Add(90*day))) {
			b.Errorf("reader's credential %d ends at %v", i, end)
		}
	}
	if c := b.stored(canary); !c.ExpiresAt.IsZero() {
		b.Errorf("the canary ends at %v", c.ExpiresAt)
	}
	for _, end := range ends(append(writers, other)...) {
		if !end.IsZero() {
			b.Errorf("a credential that no policy is for ends at %v", end)
		}
	}
	b.writesNothing("applying it again", func() { b.apply(2, now) })
	// One for all leaves out those that have their own.
	q := b.policy(credential.AnyType)
	q.MaxAge = 30 * day
	b.setPolicy(q)
	b.apply(3, now)
	for i, end := range ends(append(slices.Clone(writers), readers...)...) {
		if writer := i < len(writers); writer && (end.IsZero() || end.After(now.Add(30*day))) || !writer && i != len(writers)+1 && end.Before(now.Add(80*day)) {
			b.Errorf("after the policy for all, credential %d ends at %v", i, end)
		}
	}
}

func policyAppliedOnce(b *bench) {
	for range 20 {
		b.create(b.draft())
	}
	b.setPolicy(b.policy("reader"))
	now := b.now()
	together(4, func(int) error { b.apply(3, now); return nil })
	count := 0
	for _, e := range b.log() {
		if e.Action == audit.RotationPolicyApplied {
			count++
		}
	}
	if count != 7 {
		b.Errorf("20 agents by threes were changed in %d steps, want 7", count)
	}
}
