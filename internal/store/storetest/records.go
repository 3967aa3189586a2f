package storetest

import (
	"bytes"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

func recordTests() []test {
	return []test{
		{"records take the next places in order", recordsInOrder},
		{"a long batch keeps its order", recordsLong},
		{"no record is no event", recordsNone},
		{"one bad record leaves none", recordsAllOrNone},
		{"an old counter does not matter while the revisions hold", recordsOldCounter},
		{"a record on a changed agent or credential is stale", recordsStale},
		{"records mark agent and credential as used", recordsTouch},
		{"the last use never goes back", recordsTouchForward},
	}
}

// basis reads what a decision on the credential would rest on now.
func (b *bench) basis(c credential.Credential) *audit.Basis {
	b.Helper()
	counter := b.counter()
	e, err := b.store.EntryByCredential(b.Context(), c.ID)
	b.must("reading an entry", err)
	return &audit.Basis{
		Counter: counter, AgentID: e.Agent.ID, AgentRevision: e.Agent.Revision,
		CredentialID: e.Credential.ID, CredentialRevision: e.Credential.Revision,
	}
}

// append records events and wants exactly the stale ones refused.
func (b *bench) append(records []audit.Record, stale ...int) {
	b.Helper()
	done, err := b.store.AppendRecords(b.Context(), records)
	b.must("appending", err)
	n := 0
	for i, isStale := range done.Stale {
		if isStale {
			n++
		}
		if i < 0 || i >= len(records) {
			b.Errorf("record %d of %d is called stale", i, len(records))
		}
	}
	for _, i := range stale {
		if !done.Stale[i] {
			b.Errorf("record %d is not called stale", i)
		}
	}
	if n != len(stale) {
		b.Errorf("%d records are stale (%v), want %v", n, done.Stale, stale)
	}
	if now := b.counter(); done.Counter != now {
		b.Errorf("the batch gives the counter %d, which is %d", done.Counter, now)
	}
}

func recordsInOrder(b *bench) {
	a, c := b.create(b.draft())
	before := b.log()
	// The order of the log is the order of the records, not of their times.
	late, early := b.event(audit.TokenIssued, b.org, a.ID), b.event(audit.TokenDenied, b.org, uuid.Nil).Deny("пароль")
	late.Time = late.Time.Add(time.Hour)
	system := b.event(audit.TokenIntrospected, b.organization("globex", nil).ID, uuid.Nil)
	before = append(before, b.log()[len(before):]...)
	b.append([]audit.Record{{Event: late, Basis: b.basis(c)}, {Event: early}, {Event: system}})
	b.wantNext(before, late, early, system)
}

func recordsLong(b *bench) {
	_, c := b.create(b.draft())
	before, basis := b.log(), b.basis(c)
	records := make([]audit.Record, 2503)
	events := make([]audit.Event, len(records))
	for i := range records {
		events[i] = b.event(audit.TokenIssued, b.org, c.AgentID)
		records[i] = audit.Record{Event: events[i], Basis: basis}
	}
	b.append(records)
	b.wantNext(before, events...)
}

func recordsNone(b *bench) {
	b.writesNothing("an empty batch", func() { b.append(nil) })
}

func recordsAllOrNone(b *bench) {
	_, c := b.create(b.draft())
	twice := b.event(audit.TokenIssued, b.org, c.AgentID)
	b.writesNothing("a batch with one id twice", func() {
		_, err := b.store.AppendRecords(b.Context(), []audit.Record{
			{Event: b.event(audit.TokenIssued, b.org, c.AgentID), Basis: b.basis(c)}, {Event: twice}, {Event: twice},
		})
		if err == nil {
			b.Error("an event was written twice")
		}
	})
	before := b.log()
	b.append([]audit.Record{{Event: twice}})
	b.wantNext(before, twice) // what failed used up no place
}

func recordsOldCounter(b *bench) {
	_, c := b.create(b.draft())
	basis := b.basis(c)
	other, _ := b.create(b.draft())
	b.move(other, agent.Suspended, audit.AgentSuspended)
	if b.counter() == basis.Counter {
		b.Fatal("the counter did not move")
	}
	before, e := b.log(), b.event(audit.TokenIssued, b.org, c.AgentID)
	b.append([]audit.Record{{Event: e, Basis: basis}})
	b.wantNext(before, e)
	if got := b.stored(c).LastUsedAt; !got.Equal(e.Time) {
		b.Errorf("the credential was last used at %v, want %v", got, e.Time)
	}
}

func recordsStale(b *bench) {
	changed, first := b.create(b.draft())
	holder, rotated := b.create(b.draft())
	beside := b.add(holder, b.credential(holder))
	ended, lost := b.create(b.draft())
	bases := map[uuid.UUID]*audit.Basis{}
	for _, c := range []credential.Credential{first, rotated, beside, lost} {
		bases[c.ID] = b.basis(c)
	}
	unknown := *bases[first.ID]
	unknown.CredentialID = uuid.New()

	e := b.event(audit.AgentUpdated, b.org, changed.ID)
	_, err := b.store.UpdateAgent(b.Context(), b.org, changed.ID, func(a *agent.Agent) (audit.Event, error) {
		a.Owner = "another"
		return e, nil
	})
	b.must("updating", err)
	e = b.event(audit.CredentialRevoked, b.org, holder.ID)
	b.must("revoking a credential", b.store.ChangeCredentials(b.Context(), b.org, holder.ID,
		func(_ credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error) {
			for _, c := range live {
				if c.ID == rotated.ID {
					c.RevokedAt = e.Time
					return []credential.Credential{c}, e, nil
				}
			}
			return nil, e, errChange
		}))
	b.move(ended, agent.Revoked, audit.AgentRevoked)

	use := func(basis *audit.Basis) audit.Record {
		return audit.Record{Event: b.event(audit.TokenIssued, b.org, holder.ID), Basis: basis}
	}
	records := []audit.Record{
		use(nil), use(bases[first.ID]), use(bases[beside.ID]), use(bases[rotated.ID]), use(bases[rotated.ID]), use(b.basis(first)), use(bases[lost.ID]), use(&unknown), use(nil),
	}
	before := b.log()
	b.append(records, 1, 3, 4, 6, 7)
	b.wantNext(before, records[0].Event, records[2].Event, records[5].Event, records[8].Event)
	for _, c := range []credential.Credential{rotated, lost} {
		if got := b.stored(c); !got.LastUsedAt.IsZero() {
			b.Errorf("a stale record marks the credential as used at %v", got.LastUsedAt)
		}
	}
	if got := b.agent(ended); !got.LastAuthAt.IsZero() {
		b.Errorf("a stale record marks the agent as used at %v", got.LastAuthAt)
	}
	b.writesNothing("a batch that is stale throughout", func() {
		b.append([]audit.Record{use(bases[first.ID]), use(bases[lost.ID])}, 0, 1)
	})
}

func recordsTouch(b *bench) {
	a, first := b.create(b.draft())
	second := b.add(a, b.credential(a))
	other, third := b.create(b.draft())
	e1, e2, e3 := b.event(audit.TokenIssued, b.org, a.ID), b.event(audit.TokenIssued, b.org, a.ID), b.event(audit.TokenIssued, b.org, a.ID)
	b.append([]audit.Record{
		{Event: e3, Basis: b.basis(second)},
		{Event: e1, Basis: b.basis(first)},
		{Event: e2, Basis: b.basis(first)},
		{Event: b.event(audit.TokenIntrospected, b.org, other.ID)},
	})
	a.LastAuthAt, first.LastUsedAt, second.LastUsedAt = e3.Time, e2.Time, e3.Time
	b.wantSameAgent("the agent used", b.agent(a), a)
	wantSame(b, "the credential used twice", b.stored(first), first)
	wantSame(b, "the credential used once", b.stored(second), second)
	b.wantSameAgent("the agent not used", b.agent(other), other)
	wantSame(b, "the credential not used", b.stored(third), third)
	if !bytes.Equal(b.log()[len(b.log())-4].Encode(), e3.Encode()) {
		b.Error("the records stand in another order")
	}
	// A later change of the agent keeps what was noted.
	if got := b.move(a, agent.Suspended, audit.AgentSuspended); !got.LastAuthAt.Equal(e3.Time) || !b.agent(a).LastAuthAt.Equal(e3.Time) {
		b.Errorf("the last use is %v after a change, want %v", got.LastAuthAt, e3.Time)
	}
}

func recordsTouchForward(b *bench) {
	a, c := b.create(b.draft())
	early, late := b.event(audit.TokenIssued, b.org, a.ID), b.event(audit.TokenIssued, b.org, a.ID)
	for _, e := range []audit.Event{late, early} {
		b.append([]audit.Record{{Event: e, Basis: b.basis(c)}})
		if gotAgent, gotCredential := b.agent(a).LastAuthAt, b.stored(c).LastUsedAt; !gotAgent.Equal(late.Time) || !gotCredential.Equal(late.Time) {
			b.Errorf("the last use is %v and %v, want %v", gotAgent, gotCredential, late.Time)
		}
	}
}
