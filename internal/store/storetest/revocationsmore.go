package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/revocation"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// used notes that an agent got a token at a time.
func (b *bench) used(a agent.Agent, c credential.Credential, at time.Time) {
	b.Helper()
	e := audit.System("suite").Event(at, b.org, audit.TokenIssued, audit.Target{Type: audit.TypeToken, ID: uuid.NewString()}).About(a.ID)
	now := b.agent(a)
	_, err := b.store.AppendRecords(b.Context(), []audit.Record{{Event: e, Basis: &audit.Basis{
		Counter: b.counter(), AgentID: a.ID, AgentRevision: now.Revision, CredentialID: c.ID, CredentialRevision: c.Revision,
	}}})
	b.must("recording a token", err)
}

func tokensEnd(b *bench) {
	agents, credentials := b.crew(2)
	ahead := b.clock.Add(time.Hour) // of a node whose clock is ahead
	b.used(agents[0], credentials[0], ahead)
	j := b.order(revocation.Tokens, crewSelector())
	check := func(when string) {
		if got := b.agent(agents[0]); got.Status != agent.Active || !got.TokensValidAfter.Equal(ahead.Add(time.Microsecond)) {
			b.Errorf("%s: tokens of another clock end before %s, want %s", when, got.TokensValidAfter, ahead.Add(time.Microsecond))
		}
		if got := b.agent(agents[1]); got.Status != agent.Active || !got.TokensValidAfter.Equal(j.CreatedAt) || !got.UpdatedAt.Equal(j.CreatedAt) {
			b.Errorf("%s: tokens end before %s, want %s", when, got.TokensValidAfter, j.CreatedAt)
		}
	}
	check("decided")
	b.used(agents[1], credentials[1], b.now()) // a later token does not end
	check("decided, with a later token")
	b.finish(j, 10)
	check("written")
	past := agents[1].CreatedAt
	if j := b.order(revocation.Tokens, revocation.Selector{Owner: "crew", IssuedBefore: past}); j.Matched != 2 || j.Changed != 0 {
		b.Errorf("tokens that have ended end again: %+v", j)
	}
	fresh, _ := b.create(b.draft())
	moment := b.now()
	b.finish(b.order(revocation.Tokens, revocation.Selector{AgentIDs: []uuid.UUID{fresh.ID}, IssuedBefore: moment}), 10)
	if got := b.agent(fresh); !got.TokensValidAfter.Equal(moment) {
		b.Errorf("tokens end before %s, want %s", got.TokensValidAfter, moment)
	}
}

func startRefused(b *bench) {
	agents, _ := b.crew(2)
	refused := errors.New("refused")
	b.writesNothing("a refused revocation", func() {
		for _, inline := range []int64{0, 10} {
			_, err := b.store.StartRevocation(b.Context(), b.begin(revocation.Revoke, crewSelector(), inline), func(*revocation.Job, scope.Set) (audit.Event, error) {
				return audit.Event{}, refused
			})
			if !errors.Is(err, refused) {
				b.Errorf("got %v", err)
			}
		}
	})
	if p, err := b.store.Revocations(b.Context(), b.org, page.Query{Limit: 5}); err != nil || len(p.Items) != 0 {
		b.Errorf("a refused job is there: %+v %v", p.Items, err)
	}
	b.wantSeen("refused", "active 1", agents...)
}

func radiusCounts(b *bench) {
	agents, credentials := b.crew(3)
	b.add(agents[0], b.credential(agents[0]))
	other := b.draft()
	other.Owner, other.TokenTTL = "others", 2*time.Hour
	lasting, own := b.create(other)
	b.move(agents[2], agent.Suspended, audit.AgentSuspended)
	now := b.clock.Add(90 * time.Minute)
	b.used(agents[0], credentials[0], now.Add(-2*time.Minute))
	b.used(agents[1], credentials[1], now.Add(-70*time.Minute)) // dead by now
	b.used(lasting, own, now.Add(-70*time.Minute))
	lifetimes := revocation.Lifetimes{Now: now, Usual: time.Hour, Longest: 2 * time.Hour, Caller: agents[1].ID}
	for _, c := range []struct {
		order revocation.Order
		want  revocation.Radius
	}{
		{revocation.Order{Action: revocation.Suspend, Selector: revocation.Selector{Capability: "files:read"}}, revocation.Radius{
			Matched: 4, Changed: 3, Credentials: 4, LiveTokenHolders: 2, OwnersTotal: 2, IncludesCaller: true, Owners: []revocation.OwnerShare{{Owner: "crew", Agents: 2}, {Owner: "others", Agents: 1}},
		}},
		{revocation.Order{Action: revocation.Revoke, Selector: revocation.Selector{AgentIDs: []uuid.UUID{agents[2].ID}}}, revocation.Radius{
			Matched: 1, Changed: 1, Credentials: 1, OwnersTotal: 1, Owners: []revocation.OwnerShare{{Owner: "crew", Agents: 1}},
		}},
		{revocation.Order{Action: revocation.Tokens, Selector: revocation.Selector{Owner: "nobody"}}, revocation.Radius{}},
	} {
		b.writesNothing("a dry run", func() {
			got, err := b.store.Radius(b.Context(), b.org, c.order, lifetimes)
			b.must("counting", err)
			wantSame(b, "the radius", got, c.want)
		})
	}
}

func decisionsForgotten(b *bench) {
	agents, _ := b.crew(2)
	suspended := b.finish(b.order(revocation.Suspend, crewSelector()), 10)
	for _, at := range []time.Duration{time.Hour, revocation.UndoWithin - time.Hour} {
		b.must("maintaining", b.store.Maintain(b.Context(), suspended.CompletedAt.Add(at)))
	}
	undo, err := b.store.UndoRevocation(b.Context(), suspended.ID, b.begin(revocation.Reactivate, revocation.Selector{}, 10), b.accepts())
	if err != nil || undo.Changed != 2 {
		b.Fatalf("a suspension was forgotten too soon: %+v %v", undo, err)
	}
	open := b.order(revocation.Revoke, crewSelector())
	for range 5 {
		b.must("maintaining", b.store.Maintain(b.Context(), open.CreatedAt.Add(2*revocation.UndoWithin)))
	}
	b.wantSeen("still to be written", "revoked 4", agents...)
	if done := b.finish(open, 10); done.Written != 2 {
		b.Errorf("of a job that was open %d are written", done.Written)
	}
	if p, err := b.store.Revocations(b.Context(), b.org, page.Query{Limit: 5}); err != nil || len(p.Items) != 3 {
		b.Errorf("the jobs themselves stay: %+v %v", p.Items, err)
	}
}

func jobsListed(b *bench) {
	var want []uuid.UUID
	for range 5 {
		want = append([]uuid.UUID{b.order(revocation.Tokens, crewSelector()).ID}, want...)
	}
	other := b.organization("globex", nil).ID
	for _, limit := range []int{1, 2, 5, 10} {
		var got []uuid.UUID
		for _, j := range walk(b, limit, func(q page.Query) (page.Page[revocation.Job], error) {
			return b.store.Revocations(b.Context(), b.org, q)
		}) {
			got = append(got, j.ID)
		}
		wantSame(b, fmt.Sprintf("the list in pages of %d", limit), got, want)
	}
	if p, err := b.store.Revocations(b.Context(), other, page.Query{Limit: 5}); err != nil || len(p.Items) != 0 {
		b.Errorf("another organization sees %+v %v", p.Items, err)
	}
	if _, err := b.store.Revocation(b.Context(), other, want[0]); err == nil {
		b.Error("another organization reads a job")
	}
}

// decisionsAtOnce lets several decide for the same agents, some write, and some change
// them: no agent is left with anything open, each revision stands for one event, and no
// sequence is missing.
func decisionsAtOnce(b *bench) {
	agents, _ := b.crew(12)
	starts := make([]revocation.Start, writers)
	for i := range starts {
		starts[i] = b.begin([]revocation.Action{revocation.Tokens, revocation.Suspend}[i%2], crewSelector(), 3)
		at := b.now()
		starts[i].Now = func() time.Time { return at }
	}
	moves, end := b.plenty(audit.AgentReactivated, uuid.Nil), b.now()
	accepts := b.accepts()
	b.mustAll("deciding, writing and changing", together(writers, func(i int) error {
		if _, err := b.store.StartRevocation(b.Context(), starts[i], accepts); err != nil {
			return err
		}
		for k := range rounds {
			j, found, err := b.store.OldestRevocation(b.Context())
			if err == nil && found {
				_, err = b.store.AdvanceRevocation(b.Context(), j, 4, end)
			}
			if err != nil && !errors.Is(err, revocation.ErrLost) {
				return err
			}
			if _, err := b.store.UpdateAgent(b.Context(), b.org, agents[(i+k)%len(agents)].ID, func(a *agent.Agent) (audit.Event, error) {
				if a.Status == agent.Suspended {
					a.Status = agent.Active
				}
				return moves[i][k].About(a.ID), nil
			}); err != nil {
				return err
			}
		}
		return nil
	}))
	decided := map[uuid.UUID]string{}
	for _, a := range agents {
		decided[a.ID] = b.seen(a)
	}
	for j, found, err := b.store.OldestRevocation(b.Context()); found; j, found, err = b.store.OldestRevocation(b.Context()) {
		b.must("looking for the oldest", err)
		b.finish(j, 5)
	}
	events := map[uuid.UUID]int64{}
	for _, e := range b.wantDense() {
		events[e.AgentID]++
	}
	for _, a := range agents {
		got := b.agent(a)
		if seen := b.seen(a); seen != decided[a.ID] {
			b.Errorf("an agent was seen as %s and is written as %s", decided[a.ID], seen)
		}
		// Of its two first events neither changed it.
		if got.Revision != events[a.ID]-1 {
			b.Errorf("an agent has revision %d and %d events", got.Revision, events[a.ID])
		}
	}
	for _, j := range walk(b, 10, func(q page.Query) (page.Page[revocation.Job], error) {
		return b.store.Revocations(b.Context(), b.org, q)
	}) {
		if !j.Completed() || j.Written != j.Changed {
			b.Errorf("a job ended with %d of %d", j.Written, j.Changed)
		}
	}
}

func jobsOverlap(b *bench) {
	agents, _ := b.crew(3)
	first := b.order(revocation.Suspend, crewSelector())
	if again := b.order(revocation.Suspend, crewSelector()); again.Matched != 3 || again.Changed != 0 {
		b.Errorf("suspended agents are suspended: %+v", again)
	}
	if tokens := b.order(revocation.Tokens, crewSelector()); tokens.Changed != 0 {
		b.Errorf("tokens of suspended agents end: %+v", tokens)
	}
	// Small enough to be written at once, were nothing older open.
	last, err := b.store.StartRevocation(b.Context(), b.begin(revocation.Revoke, revocation.Selector{AgentIDs: []uuid.UUID{agents[0].ID, agents[1].ID}}, 10), b.accepts())
	if err != nil || last.Changed != 2 || last.Completed() {
		b.Errorf("the later job is %+v %v", last, err)
	}
	check := func(when string) {
		b.wantSeen(when, "revoked 3", agents[:2]...)
		b.wantSeen(when, "suspended 2", agents[2])
	}
	check("decided")
	b.move(agents[1], agent.Archived, audit.AgentArchived)
	b.wantSeen("archived", "archived 4", agents[1])
	for j, found, err := b.store.OldestRevocation(b.Context()); found; j, found, err = b.store.OldestRevocation(b.Context()) {
		b.must("looking for the oldest", err)
		b.finish(j, 2)
	}
	b.wantSeen("written", "revoked 3", agents[0])
	b.wantSeen("written", "archived 4", agents[1])
	b.wantSeen("written", "suspended 2", agents[2])
	for _, id := range []uuid.UUID{first.ID, last.ID} {
		if j, err := b.store.Revocation(b.Context(), b.org, id); err != nil || j.Written != j.Changed {
			b.Errorf("of %d agents %d are written: %v", j.Changed, j.Written, err)
		}
	}
	b.wantDense()
}

func undone(b *bench) {
	agents, _ := b.crew(4)
	j := b.finish(b.order(revocation.Suspend, crewSelector()), 10)
	b.move(agents[0], agent.Active, audit.AgentReactivated)
	again := b.move(b.move(agents[1], agent.Active, audit.AgentReactivated), agent.Suspended, audit.AgentSuspended)
	var brought scope.Set
	undo, err := b.store.UndoRevocation(b.Context(), j.ID, b.begin(revocation.Reactivate, revocation.Selector{}, 0),
		func(j *revocation.Job, brings scope.Set) (audit.Event, error) {
			brought = brings
			return b.event(audit.RevocationCreated, j.OrganizationID, uuid.Nil), nil
		})
	b.must("undoing", err)
	if undo.Changed != 2 || undo.Matched != 4 || undo.Undoes != j.ID || len(brought) != 0 {
		b.Errorf("the undo is %+v and brings %v", undo, brought)
	}
	check := func(when string) {
		b.wantSeen(when+": reactivated", "active 3", agents[0])
		b.wantSeen(when+": suspended by somebody else", fmt.Sprintf("suspended %d", again.Revision), agents[1])
		b.wantSeen(when+": undone", "active 3", agents[2:]...)
	}
	check("decided")
	b.finish(undo, 1)
	check("written")
	if got := b.agent(agents[2]); !got.TokensValidAfter.Equal(j.CreatedAt) {
		b.Errorf("undoing revived tokens: %s, want %s", got.TokensValidAfter, j.CreatedAt)
	}
	if read, err := b.store.Revocation(b.Context(), b.org, j.ID); err != nil || read.UndoneBy != undo.ID {
		b.Errorf("the suspension is undone by %s %v", read.UndoneBy, err)
	}
	admin := b.draft()
	admin.Owner, admin.Capabilities = "admins", scope.New("agents:write", "files:read", "audit:read")
	b.create(admin)
	strong := b.finish(b.order(revocation.Suspend, revocation.Selector{Owner: "admins"}), 10)
	refused := errors.New("refused")
	_, err = b.store.UndoRevocation(b.Context(), strong.ID, b.begin(revocation.Reactivate, revocation.Selector{}, 10),
		func(_ *revocation.Job, brings scope.Set) (audit.Event, error) {
			brought = brings
			return audit.Event{}, refused
		})
	if !errors.Is(err, refused) || brought.String() != "agents:write audit:read" {
		b.Errorf("what is brought back is %v: %v", brought, err)
	}
	b.wantSeen("refused", "suspended 2", admin)
}

func notUndone(b *bench) {
	agents, _ := b.crew(2)
	tokens := b.finish(b.order(revocation.Tokens, crewSelector()), 10)
	running := b.order(revocation.Suspend, crewSelector())
	undo := func(id uuid.UUID) error {
		_, err := b.store.UndoRevocation(b.Context(), id, b.begin(revocation.Reactivate, revocation.Selector{}, 10), b.accepts())
		return err
	}
	b.wantFault("undoing an end of tokens", undo(tokens.ID), fault.CodeConflict)
	b.wantFault("undoing what is being written", undo(running.ID), fault.CodeConflict)
	b.wantFault("undoing nothing", undo(uuid.New()), fault.CodeNotFound)
	b.finish(running, 10)
	org := b.org
	b.org = b.organization("globex", nil).ID
	b.wantFault("undoing another organization's", undo(running.ID), fault.CodeNotFound)
	b.org = org
	b.clock = b.clock.Add(revocation.UndoWithin + time.Hour)
	b.wantFault("undoing after long", undo(running.ID), fault.CodeConflict)
	b.clock = b.clock.Add(-revocation.UndoWithin)
	b.must("undoing", undo(running.ID))
	b.wantFault("undoing twice", undo(running.ID), fault.CodeConflict)
	b.wantSeen("undone", "active 4", agents...)
}
