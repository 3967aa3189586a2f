package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

func retentionTests() []test {
	return []test{
		{"each organization's old events go, and no other", retentionDrops},
		{"what tells of a drop is never dropped", retentionKeepsDrops},
		{"ranges of sequences are bounded", retentionRanges},
		{"a drop that breaks off goes on where it was", retentionCrash},
		{"several nodes drop each event once", retentionNodes},
		{"nothing goes once a legal hold is set", retentionHeld},
		{"nothing goes that the database finds unlawful", retentionUnlawful},
		{"nothing goes by a clock that cannot be trusted", retentionClocks},
	}
}

const day = 24 * time.Hour

// standard is the retention of the suite's organizations that have none of their own.
const standard = 90

// retention makes one whose transactions drop at most chunk events.
func (b *bench) retention(chunk, ranges int, now func() time.Time) *audit.Retention {
	return audit.NewRetention(audit.RetentionConfig{
		Store: b.store, Days: standard, Chunk: chunk, Ranges: ranges, Pause: time.Microsecond, Logger: slog.New(slog.DiscardHandler), Now: now,
	})
}

// steady lets the database's clock have gone for days as clocks do.
func (b *bench) steady() {
	b.Helper()
	b.must("watching the clock", b.store.WatchClock(b.Context(), func(database time.Time, _ audit.Clock) audit.Clock {
		return audit.Clock{Since: database.Add(-2 * day), Seen: database}
	}))
}

// aged appends n events of the organization of each age in days.
func (b *bench) aged(org uuid.UUID, n int, ages ...int) {
	b.Helper()
	var records []audit.Record
	for _, age := range ages {
		for i := range n {
			at := time.Now().Add(-time.Duration(age)*day - time.Duration(i)*time.Minute)
			records = append(records, audit.Record{Event: audit.System("suite").Event(at, org, audit.TokenIssued, audit.Target{Type: audit.TypeAgent, ID: "x"})})
		}
	}
	b.append(records)
}

// cover has the tree take in and sign all that is there.
func (b *bench) cover() {
	b.Helper()
	stop := b.sequencer(0)
	defer stop()
	b.until("the tree", b.covered)
}

func (b *bench) change(org uuid.UUID, change func(*organization.Organization)) {
	b.Helper()
	e := b.event(audit.OrganizationUpdated, org, uuid.Nil)
	_, err := b.store.UpdateOrganization(b.Context(), org, func(o *organization.Organization) (audit.Event, error) {
		change(o)
		return e, nil
	})
	b.must("changing an organization", err)
}

// told is what the event of a drop says.
type told struct {
	Before        time.Time `json:"before"`
	RetentionDays int64     `json:"retentionDays"`
	Count         int64     `json:"count"`
	First         int64     `json:"firstSequence"`
	Last          int64     `json:"lastSequence"`
	Sequences     string    `json:"sequences"`
}

// tellings reads the events of drops: what each says, and which sequences it names.
func (b *bench) tellings(events []audit.Event) (all []told, named map[int64]audit.Event) {
	b.Helper()
	named = map[int64]audit.Event{}
	for _, e := range events {
		if e.Action != audit.Dropped {
			continue
		}
		var t told
		b.must("reading the event of a drop", json.Unmarshal(e.Details.JSON(), &t))
		var count, last int64
		for part := range strings.SplitSeq(t.Sequences, ",") {
			from, to, isRange := strings.Cut(part, "-")
			if !isRange {
				to = from
			}
			low, err := strconv.ParseInt(from, 10, 64)
			b.must("reading a sequence", err)
			high, err := strconv.ParseInt(to, 10, 64)
			b.must("reading a sequence", err)
			if count == 0 && low != t.First || low <= last || isRange && high <= low {
				b.Errorf("the ranges %s, from %d, are not in order", t.Sequences, t.First)
			}
			for n := low; n <= high; n++ {
				if _, twice := named[n]; twice {
					b.Errorf("the sequence %d was dropped twice", n)
				}
				named[n] = e
				count++
			}
			last = high
		}
		if count != t.Count || last != t.Last || last >= e.Sequence || t.Before.After(e.Time.Add(-day)) {
			b.Errorf("the event %d of a drop at %v does not agree with itself: %+v", e.Sequence, e.Time, t)
		}
		all = append(all, t)
	}
	return all, named
}

// wantDropped checks that of what was there exactly these went, each named by an event
// of its organization, and that what stayed can be proven.
func (b *bench) wantDropped(before []audit.Event, gone func(audit.Event) bool) []told {
	b.Helper()
	after := b.log()
	tellings, named := b.tellings(after)
	left := map[int64]audit.Event{}
	for _, e := range after {
		left[e.Sequence] = e
	}
	log := transparency.NewLog(b.store, b.logKey())
	for _, e := range before {
		kept, isThere := left[e.Sequence]
		if isThere == gone(e) {
			b.Errorf("event %d (%s of %v, organization %s) is there: %v", e.Sequence, e.Action, e.Time, e.OrganizationID, isThere)
			continue
		}
		if by, isNamed := named[e.Sequence]; isNamed == isThere || isNamed && by.OrganizationID != e.OrganizationID {
			b.Errorf("event %d is there: %v; and named by a drop of %s", e.Sequence, isThere, by.OrganizationID)
		}
		_, err := b.store.Event(b.Context(), e.OrganizationID, e.ID)
		if isThere {
			b.must("reading an event that stayed", err)
			if !bytes.Equal(kept.Encode(), e.Encode()) {
				b.Errorf("event %d reads %s, it was %s", e.Sequence, kept.Encode(), e.Encode())
			}
		} else {
			b.wantFault("reading an event that was dropped", err, fault.CodeNotFound)
		}
		if e.Sequence > b.tree().Size {
			continue
		}
		// The leaf is in the tree, whether its event is still there or not.
		p, err := log.Inclusion(b.Context(), e.Sequence)
		b.must("proving an event", err)
		c := b.signed(p.Checkpoint)
		if tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.LeafIndex, tlog.RecordHash(e.Encode())) != nil {
			b.Errorf("event %d is no longer proven", e.Sequence)
		}
	}
	return tellings
}

func retentionDrops(b *bench) {
	long, short, held, plain := b.organization("long", nil).ID, b.organization("short", nil).ID, b.organization("held", nil).ID, b.organization("plain", nil).ID
	b.change(long, func(o *organization.Organization) { o.AuditRetentionDays = new(int64(365)) })
	b.change(short, func(o *organization.Organization) { o.AuditRetentionDays = new(int64(7)) })
	b.change(held, func(o *organization.Organization) { o.AuditRetentionDays, o.LegalHold = new(int64(1)), true })
	days := map[uuid.UUID]int64{long: 365, short: 7, plain: standard, b.org: standard}
	for _, org := range []uuid.UUID{long, short, held, plain} {
		b.aged(org, 3, 0, 2, 6, 9, 40, 89, 92, 200, 364, 367, 1000)
	}
	b.cover()
	covered := b.tree().Size
	b.aged(short, 2, 500) // not in the tree yet
	b.steady()
	before, tiles := b.log(), b.tiles()
	due := func(e audit.Event) bool {
		limit, ok := days[e.OrganizationID]
		return ok && e.Sequence <= covered && e.Time.Before(time.Now().UTC().Add(-time.Duration(limit)*day).Truncate(day))
	}
	b.must("dropping", b.retention(4, 2000, time.Now).Run(b.Context()))
	for _, t := range b.wantDropped(before, due) {
		if t.Count > 4 {
			b.Errorf("one transaction dropped %d events", t.Count)
		}
	}
	wantSame(b, "the tiles", b.tiles(), tiles)
	for org, limit := range days {
		for _, t := range b.dropsOf(org) {
			if want := time.Now().UTC().Add(-time.Duration(limit) * day).Truncate(day); t.RetentionDays != limit || !t.Before.Equal(want) {
				b.Errorf("a drop tells of %d days and %v, want %d and %v", t.RetentionDays, t.Before, limit, want)
			}
		}
		// Pages run over what is gone.
		all := b.events(org, audit.Filter{}, page.MaxLimit)
		for _, limit := range []int{1, 2, 5} {
			wantSame(b, fmt.Sprintf("pages of %d", limit), ids(b.events(org, audit.Filter{}, limit)), ids(all))
		}
	}
	b.writesNothing("a second run", func() { b.must("dropping", b.retention(4, 2000, time.Now).Run(b.Context())) })

	b.cover() // now the rest is in the tree, and the record goes on
	covered = b.tree().Size
	b.change(held, func(o *organization.Organization) { o.LegalHold = false })
	days[held] = 1
	b.must("dropping", b.retention(4, 2000, time.Now).Run(b.Context()))
	b.cover()
	b.wantDropped(before, due)
	b.aged(long, 1, 0)
	b.cover()
}

func (b *bench) dropsOf(org uuid.UUID) []told {
	b.Helper()
	all, _ := b.tellings(b.events(org, audit.Filter{Action: audit.Dropped}, page.MaxLimit))
	return all
}

// tiles gives the hashes of the tree's lowest level.
func (b *bench) tiles() [][]byte {
	b.Helper()
	var tiles []tlog.Tile
	for n := range b.tree().Size/256 + 1 {
		tiles = append(tiles, tlog.Tile{H: transparency.TileHeight, N: n, W: 1})
	}
	data, err := b.store.Tiles(b.Context(), tiles)
	b.must("reading tiles", err)
	return data
}

// drop is one transaction of a drop of the bench's organization.
func (b *bench) drop(org uuid.UUID, days int64, events int, before time.Time, event func(audit.Ranges) audit.Event) (int64, error) {
	d := audit.Drop{Retained: audit.Retained{OrganizationID: org, Days: days}, Before: before, Events: events, Ranges: 2000}
	return b.store.DropEvents(b.Context(), d, event)
}

// telling makes the event of a drop that happened at a time.
func telling(org uuid.UUID, at, before time.Time, days int64, r audit.Ranges) audit.Event {
	return audit.System("suite").Event(at, org, audit.Dropped, audit.Target{Type: audit.TypeOrganization, ID: org.String()}).With(audit.Details{}.
		Time("before", before).Int("retentionDays", days).Int("count", r.Count()).
		Int("firstSequence", r[0].First).Int("lastSequence", r[len(r)-1].Last).String("sequences", r.String()))
}

func retentionKeepsDrops(b *bench) {
	b.aged(b.org, 3, 300, 400)
	b.cover()
	at, before := time.Now().Add(-200*day), time.Now().UTC().Add(-300*day+time.Hour)
	n, err := b.drop(b.org, standard, 2, before, func(r audit.Ranges) audit.Event { return telling(b.org, at, before, standard, r) })
	if err != nil || n != 2 {
		b.Fatalf("%d events were dropped, %v", n, err)
	}
	b.cover()
	b.steady()
	there := b.log()
	b.must("dropping", b.retention(0, 0, time.Now).Run(b.Context()))
	left := b.log()
	if slices.ContainsFunc(left, func(e audit.Event) bool { return e.Action == audit.TokenIssued }) {
		b.Errorf("of %d events %d are left", len(there), len(left))
	}
	first := there[slices.IndexFunc(there, func(e audit.Event) bool { return e.Action == audit.Dropped })]
	if !slices.ContainsFunc(left, func(e audit.Event) bool { return e.ID == first.ID }) {
		b.Error("the event of a drop was dropped")
	}
}

func retentionRanges(b *bench) {
	other := b.organization("other", nil).ID
	for range 7 {
		b.aged(b.org, 1, 300)
		b.aged(other, 1, 300)
	}
	b.cover()
	b.steady()
	before := b.log()
	b.must("dropping", b.retention(1000, 3, time.Now).Run(b.Context()))
	due := time.Now().Add(-standard * day).UTC().Truncate(day)
	tellings := b.wantDropped(before, func(e audit.Event) bool { return e.Time.Before(due) })
	if len(tellings) < 6 {
		b.Errorf("there were %d transactions, want three for each organization", len(tellings))
	}
	for _, t := range tellings {
		if strings.Count(t.Sequences, ",") > 2 {
			b.Errorf("one event names the ranges %s", t.Sequences)
		}
	}
}

func retentionCrash(b *bench) {
	b.aged(b.org, 10, 300)
	b.cover()
	b.steady()
	before := b.log()
	ctx, cancel := context.WithCancel(b.Context())
	due := time.Now().Add(-standard * day).UTC().Truncate(day)
	b.writesNothing("a drop that breaks off", func() {
		d := audit.Drop{Retained: audit.Retained{OrganizationID: b.org, Days: standard}, Before: due, Events: 4, Ranges: 2000}
		n, err := b.store.DropEvents(ctx, d, func(r audit.Ranges) audit.Event {
			cancel()
			return telling(b.org, time.Now(), due, standard, r)
		})
		if err == nil || n != 0 {
			b.Errorf("a drop that broke off dropped %d, %v", n, err)
		}
	})
	if n, err := b.drop(b.org, standard, 4, due, func(r audit.Ranges) audit.Event { return telling(b.org, time.Now(), due, standard, r) }); n != 4 || err != nil {
		b.Fatalf("%d events were dropped, %v", n, err)
	}
	b.must("dropping", b.retention(4, 2000, time.Now).Run(b.Context())) // another node, later
	b.wantDropped(before, func(e audit.Event) bool { return e.Time.Before(due) })
}

func retentionNodes(b *bench) {
	for range 5 {
		b.aged(b.org, 6, 100, 200, 300)
		b.aged(b.org, 3, 1)
	}
	b.cover()
	b.steady()
	before := b.log()
	for _, err := range together(4, func(int) error { return b.retention(7, 2000, time.Now).Run(b.Context()) }) {
		b.must("dropping", err)
	}
	due := time.Now().Add(-standard * day).UTC().Truncate(day)
	b.wantDropped(before, func(e audit.Event) bool { return e.Time.Before(due) })
}
