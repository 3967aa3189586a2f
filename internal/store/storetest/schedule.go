package storetest

import (
	"cmp"
	"slices"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

func scheduleTests() []test {
	return []test{
		{"an end is looked at once it is written, and again when it moves", scheduleDue},
		{"a look is noted with its event, once", scheduleLooks},
		{"of many who look one tells", scheduleOnce},
		{"a whole schedule tells each end once, on several nodes", scheduleRuns},
		{"used successors are found, and those to be retired", scheduleMarked},
		{"what was rotated ends once its successor is used", scheduleSupersedes},
		{"what is to be retired goes when nobody uses it", scheduleRetires},
		{"lists what ends, soonest first", expiringListed},
	}
}

func pageOf(limit int) page.Query { return page.Query{Limit: limit} }

// due gives the ids of what is to be looked at.
func (b *bench) due(now time.Time, limit int) []credential.Due {
	b.Helper()
	due, err := b.store.DueCredentials(b.Context(), now, limit)
	b.must("looking for what is due", err)
	return due
}

// ending adds a credential that ends.
func (b *bench) ending(a agent.Agent, end time.Time) credential.Credential {
	b.Helper()
	c := b.credential(a)
	c.ExpiresAt = end
	return b.add(a, c)
}

func scheduleDue(b *bench) {
	d := b.draft()
	d.Capabilities = scope.New("a:b", "c:d")
	a, _ := b.create(d)
	if due := b.due(b.now().Add(20_000*day), 10); len(due) != 0 {
		b.Fatalf("a credential without an end is due: %+v", due)
	}
	c := b.ending(a, b.now().Add(10_000*day)) // by the clock of the engine too
	due := b.due(b.now(), 10)
	if len(due) != 1 || due[0].Warned != credential.Untold || due[0].WarnAt.IsZero() {
		b.Fatalf("what is due: %+v", due)
	}
	wantSame(b, "the credential", due[0].Credential, c)
	wantSame(b, "its holder", due[0].Holder, credential.Holder{AgentID: a.ID, OrganizationID: b.org, AgentType: "reader", Status: "active", Capabilities: a.Capabilities})
	next := b.now().Add(50 * day)
	told, err := b.store.NoteLooks(b.Context(), []credential.Look{{ID: c.ID, Seen: due[0].WarnAt, Next: next, Warned: 7 * day}})
	if err != nil || told != 0 {
		b.Fatalf("noting a look told %d, %v", told, err)
	}
	if due := b.due(next.Add(-time.Microsecond), 10); len(due) != 0 {
		b.Errorf("it is due too soon: %+v", due)
	}
	if due := b.due(next, 10); len(due) != 1 || due[0].Warned != 7*day || !due[0].WarnAt.Equal(next) {
		b.Errorf("later, this is due: %+v", due)
	}
	change := func(to func(*credential.Credential)) {
		e := b.event(audit.CredentialRotated, b.org, a.ID)
		b.must("changing", b.store.ChangeCredentials(b.Context(), b.org, a.ID,
			func(_ credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error) {
				changed := live[slices.IndexFunc(live, func(l credential.Credential) bool { return l.ID == c.ID })]
				to(&changed)
				return []credential.Credential{changed}, e, nil
			}))
	}
	change(func(c *credential.Credential) { c.Pending = true })
	if due := b.due(next, 10); len(due) != 1 || due[0].Warned != 7*day {
		b.Errorf("what left the end alone changed the schedule: %+v", due)
	}
	change(func(c *credential.Credential) { c.ExpiresAt = c.ExpiresAt.Add(-day) })
	if due := b.due(b.now(), 10); len(due) != 1 || due[0].Warned != credential.Untold {
		b.Errorf("after another end, this is due: %+v", due)
	}
	change(func(c *credential.Credential) { c.RevokedAt = b.now() })
	if due := b.due(next, 10); len(due) != 0 {
		b.Errorf("a revoked credential is due: %+v", due)
	}
}

func scheduleLooks(b *bench) {
	a, _ := b.create(b.draft())
	for range 5 {
		b.ending(a, b.now().Add(day))
	}
	due := b.due(b.now(), 3)
	if len(due) != 3 {
		b.Fatalf("%d are due, want no more than were asked for", len(due))
	}
	var looks []credential.Look
	var events []audit.Event
	for i, d := range due {
		e := b.event(audit.CredentialExpiring, b.org, a.ID)
		l := credential.Look{ID: d.ID, Seen: d.WarnAt, Next: d.ExpiresAt, Warned: day}
		if i > 0 {
			l.Event = &e
			events = append(events, e)
		}
		looks = append(looks, l)
	}
	looks = append(looks, credential.Look{ID: uuid.New(), Seen: due[0].WarnAt, Event: looks[1].Event}) // there is none
	before, counter := b.log(), b.counter()
	told, err := b.store.NoteLooks(b.Context(), looks)
	if err != nil || told != 2 {
		b.Fatalf("%d were told of, %v; want 2", told, err)
	}
	got := b.log()[len(before):]
	byID := func(x, y audit.Event) int { return cmp.Compare(x.ID.String(), y.ID.String()) }
	slices.SortFunc(got, byID)
	slices.SortFunc(events, byID)
	if len(got) != 2 || got[0].ID != events[0].ID || got[1].ID != events[1].ID {
		b.Errorf("these were told: %+v", got)
	}
	if b.counter() != counter || b.stored(due[0].Credential).Revision != due[0].Revision {
		b.Error("a look counts as a change")
	}
	b.writesNothing("looking again at what was seen", func() {
		if told, err := b.store.NoteLooks(b.Context(), looks); told != 0 || err != nil {
			b.Errorf("%d were told of again, %v", told, err)
		}
	})
	if left := b.due(b.now(), 10); len(left) != 2 {
		b.Errorf("%d are left, want 2", len(left))
	}
}

func scheduleOnce(b *bench) {
	a, _ := b.create(b.draft())
	b.ending(a, b.now().Add(day))
	due := b.due(b.now(), 1)
	events := make([]audit.Event, 8)
	for i := range events {
		events[i] = b.event(audit.CredentialExpiring, b.org, a.ID)
	}
	for _, err := range together(len(events), func(i int) error {
		_, err := b.store.NoteLooks(b.Context(), []credential.Look{{ID: due[0].ID, Seen: due[0].WarnAt, Next: due[0].ExpiresAt, Warned: day, Event: &events[i]}})
		return err
	}) {
		b.must("noting a look", err)
	}
	if n := len(b.told(audit.CredentialExpiring)); n != 1 {
		b.Errorf("it was told %d times", n)
	}
}

// told gives the events of an action.
func (b *bench) told(action audit.Action) (all []audit.Event) {
	b.Helper()
	for _, e := range b.log() {
		if e.Action == action {
			all = append(all, e)
		}
	}
	return all
}

func scheduleRuns(b *bench) {
	p := b.policy("reader")
	p.MaxAge, p.WarnBefore = 0, []time.Duration{10 * day, day}
	b.setPolicy(p)
	const n = 12
	start := b.now()
	for range n {
		a, _ := b.create(b.draft())
		b.ending(a, start.Add(100*day))
	}
	at := start
	run := func(d time.Duration) {
		at = start.Add(d)
		for _, err := range together(3, func(int) error {
			return credential.NewSchedule(b.store, b.store, func() time.Time { return at }).Run(b.Context())
		}) {
			b.must("running", err)
		}
	}
	for _, step := range []struct {
		at                time.Duration
		expiring, expired int
	}{{day, 0, 0}, {91 * day, n, 0}, {92 * day, n, 0}, {99*day + time.Hour, 2 * n, 0}, {99*day + 2*time.Hour, 2 * n, 0}, {101 * day, 2 * n, n}, {200 * day, 2 * n, n}} {
		run(step.at)
		b.setPolicy(p) // so that all are looked at again
		run(step.at)
		if expiring, expired := len(b.told(audit.CredentialExpiring)), len(b.told(audit.CredentialExpired)); expiring != step.expiring || expired != step.expired {
			b.Errorf("after %v, %d ends were told of before they came, and %d when; want %d and %d", step.at, expiring, expired, step.expiring, step.expired)
		}
	}
}

func scheduleMarked(b *bench) {
	a, _ := b.create(b.draft())
	mark := func(to func(*credential.Credential)) credential.Credential {
		c := b.credential(a)
		to(&c)
		return b.add(a, c)
	}
	used := mark(func(c *credential.Credential) { c.Pending = true })
	mark(func(c *credential.Credential) { c.Pending = true }) // never used
	plain := mark(func(*credential.Credential) {})
	dead := mark(func(c *credential.Credential) { c.Pending, c.RevokedAt = true, b.now() })
	retiring := mark(func(c *credential.Credential) { c.RetireAfter, c.RetireSince = time.Hour, b.now() })
	for _, c := range []credential.Credential{used, plain, dead} {
		e := audit.System("suite").Event(b.now(), b.org, audit.TokenIssued, audit.Target{Type: audit.TypeToken, ID: "x"})
		basis := &audit.Basis{Counter: b.counter(), AgentID: a.ID, AgentRevision: a.Revision, CredentialID: c.ID, CredentialRevision: c.Revision}
		_, err := b.store.AppendRecords(b.Context(), []audit.Record{{Event: e, Basis: basis}})
		b.must("using a credential", err)
	}
	check := func(what string, list func(after uuid.UUID, limit int) ([]credential.Credential, error), want credential.Credential) {
		got, err := list(uuid.Nil, 10)
		b.must(what, err)
		if len(got) != 1 || got[0].ID != want.ID {
			b.Errorf("%s: %+v, want %s", what, got, want.ID)
		}
		after, err := list(want.ID, 10)
		b.must(what, err)
		if len(after) != 0 {
			b.Errorf("%s, after the last: %+v", what, after)
		}
	}
	check("used successors", func(after uuid.UUID, limit int) ([]credential.Credential, error) {
		return b.store.UsedSuccessors(b.Context(), after, limit)
	}, used)
	check("those to be retired", func(after uuid.UUID, limit int) ([]credential.Credential, error) {
		return b.store.RetiringCredentials(b.Context(), after, limit)
	}, retiring)
}

func expiringListed(b *bench) {
	start := b.now()
	var want []uuid.UUID
	for i := range 9 {
		a, _ := b.create(b.draft())
		c := b.ending(a, start.Add(time.Duration(1+i/2)*day)) // some end together
		want = append(want, c.ID)
		gone := b.credential(a)
		gone.ExpiresAt, gone.RevokedAt = c.ExpiresAt, b.now()
		b.add(a, gone)
	}
	foreign := b.draft()
	foreign.OrganizationID = b.organization("globex", nil).ID
	other, _ := b.create(foreign)
	b.ending(other, start.Add(day))
	list := func(from, before time.Time, limit int) (ids []uuid.UUID) {
		var last time.Time
		for _, c := range walk(b, limit, func(q page.Query) (page.Page[credential.Credential], error) {
			return b.store.ExpiringCredentials(b.Context(), b.org, from, before, q)
		}) {
			if c.ExpiresAt.Before(last) {
				b.Errorf("%v comes after %v", c.ExpiresAt, last)
			}
			last = c.ExpiresAt
			ids = append(ids, c.ID)
		}
		slices.SortFunc(ids, func(x, y uuid.UUID) int { return slices.Index(want, x) - slices.Index(want, y) })
		return ids
	}
	for _, limit := range []int{1, 2, 3, 50} {
		wantSame(b, "all that ends", list(start, start.Add(1000*day), limit), want)
		wantSame(b, "what ends on the second and third day", list(start.Add(2*day), start.Add(4*day), limit), want[2:6])
	}
}

// wield uses a credential for a token.
func (b *bench) wield(a agent.Agent, c credential.Credential) {
	b.Helper()
	now := b.stored(c)
	e := audit.System("suite").Event(b.now(), b.org, audit.TokenIssued, audit.Target{Type: audit.TypeToken, ID: "x"}).About(a.ID)
	basis := &audit.Basis{Counter: b.counter(), AgentID: a.ID, AgentRevision: a.Revision, CredentialID: c.ID, CredentialRevision: now.Revision}
	done, err := b.store.AppendRecords(b.Context(), []audit.Record{{Event: e, Basis: basis}})
	if err != nil || len(done.Stale) > 0 {
		b.Fatalf("using a credential: %+v, %v", done, err)
	}
}

// schedule runs one on several nodes at once.
func (b *bench) schedule(at time.Time) {
	b.Helper()
	for _, err := range together(3, func(int) error {
		return credential.NewSchedule(b.store, b.store, func() time.Time { return at }).Run(b.Context())
	}) {
		b.must("running the schedule", err)
	}
}

func scheduleSupersedes(b *bench) {
	p := b.policy("reader")
	p.MaxAge, p.Overlap = 0, 3*day
	b.setPolicy(p)
	a, old := b.create(b.draft())
	successor := func() credential.Credential {
		c := b.credential(a)
		c.Pending, c.RotatedFrom = true, old.ID
		return b.add(a, c)
	}
	lost, used := successor(), successor()
	at := time.Now().UTC().Truncate(time.Microsecond)
	b.schedule(at)
	if len(b.told(audit.CredentialSuperseded)) != 0 || !b.stored(old).ExpiresAt.IsZero() {
		b.Error("a successor that nobody used ended what came before it")
	}
	b.wield(a, used)
	b.schedule(at)
	if got := b.stored(old); !got.ExpiresAt.Equal(at.Add(3 * day)) {
		b.Errorf("the old one ends at %v, want three days from %v", got.ExpiresAt, at)
	}
	if b.stored(used).Pending || b.stored(lost).RevokedAt.IsZero() {
		b.Error("the successor still waits to be used, or the lost one is still good")
	}
	b.schedule(at)
	if told := b.told(audit.CredentialSuperseded); len(told) != 1 || told[0].Target.ID != old.ID.String() || told[0].AgentID != a.ID {
		b.Errorf("it was told: %+v", told)
	}
}

func scheduleRetires(b *bench) {
	a, _ := b.create(b.draft())
	at := time.Now().UTC().Truncate(time.Microsecond)
	retiring := func() credential.Credential {
		c := b.credential(a)
		c.RetireAfter, c.RetireSince = time.Hour, at
		return b.add(a, c)
	}
	idle, busy := retiring(), retiring()
	b.schedule(at.Add(time.Hour - time.Second))
	b.clock = at.Add(30 * time.Minute)
	b.wield(a, busy)
	b.schedule(at.Add(time.Hour))
	if b.stored(idle).RevokedAt.IsZero() || !b.stored(busy).RevokedAt.IsZero() {
		b.Error("what nobody uses is still good, or what somebody does is not")
	}
	b.schedule(at.Add(2 * time.Hour))
	if b.stored(busy).RevokedAt.IsZero() || len(b.told(audit.CredentialRevoked)) != 2 {
		b.Errorf("after it was unused too, it was told %d times", len(b.told(audit.CredentialRevoked)))
	}
}
