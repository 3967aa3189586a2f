package storetest

import (
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

func retentionHeld(b *bench) {
	b.aged(b.org, 50, 100, 200, 300)
	b.cover()
	b.steady()
	var left []uuid.UUID
	together(4, func(i int) error {
		if i > 0 {
			return b.retention(1, 2000, time.Now).Run(b.Context()) // which may fail, as it is forbidden in the middle
		}
		for len(b.dropsOf(b.org)) < 5 {
			time.Sleep(time.Millisecond)
		}
		b.change(b.org, func(o *organization.Organization) { o.LegalHold = true })
		left = ids(b.events(b.org, audit.Filter{Action: audit.TokenIssued}, page.MaxLimit))
		return nil
	})
	if len(left) < 50 {
		b.Errorf("only %d events were left when the hold was set", len(left))
	}
	wantSame(b, "what is left under the hold", ids(b.events(b.org, audit.Filter{Action: audit.TokenIssued}, page.MaxLimit)), left)
}

func retentionUnlawful(b *bench) {
	other := b.organization("other", nil).ID
	b.change(other, func(o *organization.Organization) { o.AuditRetentionDays = new(int64(30)) })
	b.aged(b.org, 2, 0, 20, 300)
	b.aged(other, 2, 0, 20, 300)
	b.cover()
	now := time.Now().UTC()
	for name, c := range map[string]struct {
		org    uuid.UUID
		days   int64
		before time.Time
		event  func(audit.Ranges) audit.Event
	}{
		"within 24 hours":             {b.org, 1, now.Add(-23 * time.Hour), nil},
		"in the future":               {b.org, 1, now.Add(day), nil},
		"within its own retention":    {other, 30, now.Add(-10 * day), nil},
		"told of another":             {b.org, 90, now.Add(-90 * day), func(r audit.Ranges) audit.Event { return telling(other, now, now.Add(-90*day), 90, r) }},
		"told of fewer":               {b.org, 90, now.Add(-90 * day), func(r audit.Ranges) audit.Event { r[0].First++; return telling(b.org, now, now.Add(-90*day), 90, r) }},
		"told as something else":      {b.org, 90, now.Add(-90 * day), func(audit.Ranges) audit.Event { return b.event(audit.TokenIssued, b.org, uuid.Nil) }},
		"with a retention it has not": {other, 29, now.Add(-30 * day), nil},
		"of an unknown organization":  {uuid.New(), 30, now.Add(-30 * day), nil},
	} {
		if c.event == nil {
			c.event = func(r audit.Ranges) audit.Event { return telling(c.org, now, c.before, c.days, r) }
		}
		b.writesNothing("a drop "+name, func() {
			if n, err := b.drop(c.org, c.days, 100, c.before, c.event); n != 0 {
				b.Errorf("a drop %s: %d went, %v", name, n, err)
			}
		})
	}
	b.change(other, func(o *organization.Organization) { o.LegalHold = true })
	b.writesNothing("a drop under legal hold", func() {
		if n, err := b.drop(other, 30, 100, now.Add(-30*day), nil); n != 0 || err != nil {
			b.Errorf("a drop under legal hold: %d went, %v", n, err)
		}
	})
	b.writesNothing("an event that tells of no drop", func() {
		if _, err := b.store.AppendRecords(b.Context(), []audit.Record{{Event: telling(b.org, now, now.Add(-90*day), 90, audit.Ranges{{First: 1, Last: 2}})}}); err == nil {
			b.Error("an event that tells of no drop was recorded")
		}
	})
	// None of it kept the store from its work.
	b.aged(b.org, 1, 0)
	b.steady()
	b.must("dropping", b.retention(0, 0, time.Now).Run(b.Context()))
	if len(b.dropsOf(b.org)) == 0 || len(b.dropsOf(other)) != 0 {
		b.Error("what is lawful was not dropped, or what is held was")
	}
}

func retentionClocks(b *bench) {
	b.aged(b.org, 3, 300)
	b.cover()
	seen := func(since, ago time.Duration) func() {
		return func() {
			b.must("watching the clock", b.store.WatchClock(b.Context(), func(database time.Time, _ audit.Clock) audit.Clock {
				return audit.Clock{Since: database.Add(-since), Seen: database.Add(-ago)}
			}))
		}
	}
	ahead := func(by time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(by) } }
	for _, c := range []struct {
		name    string
		prepare func()
		now     func() time.Time
	}{
		{"on the first run of all", func() {}, time.Now},
		{"soon after it", func() {}, time.Now},
		{"by a node a year ahead", b.steady, ahead(365 * day)},
		{"soon after that", func() {}, time.Now},
		{"by a node an hour behind", b.steady, ahead(-time.Hour)},
		{"when the database's clock jumped ahead", seen(9*day, 2*day), time.Now},
		{"soon after it did", func() {}, time.Now},
		{"when the database's clock jumped back", seen(9*day, -time.Hour), time.Now},
	} {
		c.prepare()
		b.writesNothing(c.name, func() { b.must("dropping", b.retention(0, 0, c.now).Run(b.Context())) })
	}
	seen(25*time.Hour, time.Hour)()
	b.must("dropping", b.retention(0, 0, ahead(time.Minute)).Run(b.Context()))
	if len(b.dropsOf(b.org)) == 0 {
		b.Error("a clock that went on for a day is not trusted")
	}
}
