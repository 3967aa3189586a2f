package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

func eventTests() []test {
	return []test{
		{"reads one event back", eventReadsBack},
		{"an event of another organization is not found", eventOfAnother},
		{"every filter alone and combined", eventFilters},
		{"a list stays stable while events are added", eventListStable},
	}
}

func eventReadsBack(b *bench) {
	e := b.event(audit.TokenDenied, b.org, uuid.New()).Deny("причина \"☃\" \u2028")
	e.Actor = audit.Actor{Type: audit.TypeAnonymous, ID: "someone \\ else"}
	e.RequestID, e.SourceIP = "req-1", "2001:db8::1"
	e.Details = audit.Details{}.String("s", "🚀\n").Int("n", -9_007_199_254_740_993).Bool("b", true).Time("t", b.now()).Strings("l", []string{"", "ж"})
	now := b.now()
	bare := audit.Event{ID: audit.NewID(now), Time: now, OrganizationID: b.org, Action: audit.TokenIntrospected, Outcome: audit.Success}
	b.append([]audit.Record{{Event: e}, {Event: bare}})
	for _, want := range []audit.Event{e, bare} {
		got, err := b.store.Event(b.Context(), b.org, want.ID)
		b.must("reading an event", err)
		if !bytes.Equal(got.Encode(), want.Encode()) {
			b.Errorf("the event reads\n%s, want\n%s", got.Encode(), want.Encode())
		}
		if got.Sequence == 0 {
			b.Error("the event has no sequence")
		}
	}
}

func eventOfAnother(b *bench) {
	other := b.organization("globex", nil).ID
	e := b.event(audit.TokenIntrospected, b.org, uuid.Nil)
	b.append([]audit.Record{{Event: e}})
	_, err := b.store.Event(b.Context(), other, e.ID)
	b.wantFault("another organization's event", err, fault.CodeNotFound)
	_, err = b.store.Event(b.Context(), b.org, uuid.New())
	b.wantFault("an unknown event", err, fault.CodeNotFound)
	for _, got := range b.events(other, audit.Filter{}, 10) {
		if got.OrganizationID != other {
			b.Errorf("another organization lists %+v", got)
		}
	}
}

// history appends events that differ in everything a filter asks for, three to
// each moment, and gives them newest first.
func (b *bench) history(org uuid.UUID, n int) []audit.Event {
	b.Helper()
	base := b.now()
	agents := []uuid.UUID{uuid.Nil, uuid.New(), uuid.New()}
	actions := []audit.Action{audit.TokenIssued, audit.TokenDenied, audit.AgentUpdated}
	var all []audit.Event
	var records []audit.Record
	for i := range n {
		e := b.event(actions[i%3], org, agents[i/2%3])
		e.Time = base.Add(time.Duration(i/3) * time.Microsecond)
		e.Actor.ID = []string{"суite", "root", agents[1].String(), agents[i/2%3].String()}[i/4%4]
		if i%5 == 0 {
			e = e.Deny("no")
		}
		all, records = append(all, e), append(records, audit.Record{Event: e})
	}
	b.append(records)
	slices.SortFunc(all, func(x, y audit.Event) int { return newer(x.Time, x.ID, y.Time, y.ID) })
	return all
}

func selects(f audit.Filter, e audit.Event) bool {
	return (f.AgentID == uuid.Nil || e.AgentID == f.AgentID) && (f.ActorID == "" || e.Actor.ID == f.ActorID) && (f.Action == "" || e.Action == f.Action) &&
		(f.Outcome == "" || e.Outcome == f.Outcome) && (f.From.IsZero() || !e.Time.Before(f.From)) && (f.To.IsZero() || e.Time.Before(f.To))
}

func ids(all []audit.Event) []uuid.UUID {
	var list []uuid.UUID
	for _, e := range all {
		list = append(list, e.ID)
	}
	return list
}

func eventFilters(b *bench) {
	all := b.history(b.org, 48)
	b.history(b.organization("neighbour", nil).ID, 12)
	for _, e := range b.events(b.org, audit.Filter{}, page.MaxLimit) {
		if !slices.ContainsFunc(all, func(known audit.Event) bool { return known.ID == e.ID }) {
			all = append(all, e) // the making of the organization
		}
	}
	self := all[slices.IndexFunc(all, func(e audit.Event) bool { return e.Actor.ID == e.AgentID.String() && e.AgentID != uuid.Nil })]
	for _, like := range []audit.Event{all[20], all[len(all)-5], self, {AgentID: uuid.New(), Actor: audit.Actor{ID: "none"}, Action: "none", Outcome: "none"}} {
		from, to := all[40].Time, all[4].Time
		for mask := range 1 << 6 {
			var f audit.Filter
			for bit, set := range []func(){
				func() { f.AgentID = like.AgentID },
				func() { f.ActorID = like.Actor.ID },
				func() { f.Action = like.Action },
				func() { f.Outcome = like.Outcome },
				func() { f.From = from },
				func() { f.To = to },
			} {
				if mask>>bit&1 == 1 {
					set()
				}
			}
			var want []uuid.UUID
			for _, e := range all {
				if selects(f, e) {
					want = append(want, e.ID)
				}
			}
			for _, limit := range []int{1, 5, len(want), page.MaxLimit} {
				wantSame(b, fmt.Sprintf("%+v in pages of %d", f, limit), ids(b.events(b.org, f, max(limit, 1))), want)
			}
		}
	}
}

func eventListStable(b *bench) {
	there := b.history(b.org, 20)
	for _, f := range []audit.Filter{{}, {Action: audit.TokenIssued}, {AgentID: there[0].AgentID}, {From: there[len(there)-1].Time}} {
		there = b.events(b.org, audit.Filter{}, page.MaxLimit)
		seen := map[uuid.UUID]int{}
		walk(b, 3, func(q page.Query) (page.Page[audit.Event], error) {
			p, err := b.store.Events(b.Context(), b.org, f, q)
			for _, e := range p.Items {
				seen[e.ID]++
			}
			newest, tied := b.event(audit.TokenIssued, b.org, there[0].AgentID), b.event(audit.TokenIssued, b.org, there[0].AgentID)
			tied.Time = there[0].Time
			b.append([]audit.Record{{Event: newest}, {Event: tied}})
			return p, err
		})
		for id, n := range seen {
			if n != 1 {
				b.Errorf("%+v: the event %s is listed %d times", f, id, n)
			}
		}
		for _, e := range there {
			if selects(f, e) && seen[e.ID] == 0 {
				b.Errorf("%+v: the event %s was there from the start and is not listed", f, e.ID)
			}
		}
	}
}
