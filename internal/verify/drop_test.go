package verify

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

const day = 24 * time.Hour

// dropOf gives the canonical bytes of an audit.dropped event.
func dropOf(at time.Time, org uuid.UUID, before time.Time, days, count, first, last int64, list string) []byte {
	return dropEvent(at, org, before, days, count, first, last, list).Encode()
}

func dropEvent(at time.Time, org uuid.UUID, before time.Time, days, count, first, last int64, list string) audit.Event {
	return audit.System("retention").Event(at, org, dropped, audit.Target{Type: audit.TypeOrganization, ID: org.String()}).With(audit.Details{}.
		Time("before", before).Int("retentionDays", days).Int("count", count).
		Int("firstSequence", first).Int("lastSequence", last).String("sequences", list))
}

func TestALawfulGapIsToldFromATheft(t *testing.T) {
	l := newLog(t)
	l.fill(100, 100*day) // A has the odd sequences, B the even ones
	l.fill(30, time.Hour)
	var odd, some []string
	for i := 1; i <= 100; i += 2 {
		odd = append(odd, fmt.Sprint(i))
	}
	for i := 2; i <= 40; i += 2 {
		some = append(some, fmt.Sprint(i))
	}
	l.Append(dropOf(now, orgA, now.Add(-90*day), 90, int64(len(odd)), 1, 99, strings.Join(odd, ",")))
	l.Append(dropOf(now, orgB, now.Add(-95*day), 95, int64(len(some)), 2, 40, strings.Join(some, ",")))
	lawful := func(i int64) bool { return i < 100 && i%2 == 0 || i < 40 }
	sum, err := l.verify(text(l.Lines(lawful)), all)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Hidden != 70 || sum.Explained != 70 || sum.Drops != 2 || sum.Dropped != 70 || sum.ShortestRetention != 90 {
		t.Errorf("%+v", sum)
	}
	// What was dropped after it was read is still there.
	if _, err := l.verify(text(l.Lines(func(i int64) bool { return lawful(i) && i != 4 })), all); err != nil {
		t.Error(err)
	}
	for _, stolen := range []int64{41, 59, 99, 100, 129} {
		export := text(l.Lines(func(i int64) bool { return lawful(i) || i == stolen }))
		_, err = l.verify(export, all)
		wrong(t, err, Unexplained, stolen+1)
		// In the export of one organization it is not told from another's event.
		if _, err = l.verify(export); err != nil {
			t.Error(err)
		}
	}
}

func TestADropKeepsTheRules(t *testing.T) {
	for name, c := range map[string]struct {
		body []byte
		kind Kind
	}{
		"right":                 {dropOf(now, orgA, now.Add(-90*day), 90, 7, 1, 9, "1,3-7,9"), ""},
		"after a clock":         {dropOf(now.Add(time.Minute), orgA, now.Add(-90*day), 90, 1, 9, 9, "9"), ""},
		"itself":                {dropOf(now, orgA, now.Add(-90*day), 90, 1, 101, 101, "101"), UnlawfulDrop},
		"what comes later":      {dropOf(now, orgA, now.Add(-90*day), 90, 200, 1, 200, "1-200"), UnlawfulDrop},
		"later than it says":    {dropOf(now, orgA, now.Add(-90*day), 90, 2, 1, 9, "1,200"), UnlawfulDrop},
		"of today":              {dropOf(now, orgA, now.Add(-23*time.Hour), 1, 1, 9, 9, "9"), UnlawfulDrop},
		"of nearly a day":       {dropOf(now, orgA, now.Add(30*time.Second-day), 1, 1, 9, 9, "9"), UnlawfulDrop},
		"before time":           {dropOf(now, orgA, now.Add(-89*day), 90, 1, 9, 9, "9"), UnlawfulDrop},
		"no retention":          {dropOf(now, orgA, now.Add(-89*day), 0, 1, 9, 9, "9"), UnlawfulDrop},
		"an endless retention":  {dropOf(now, orgA, now.Add(-89*day), 1<<50, 1, 9, 9, "9"), UnlawfulDrop},
		"in the future":         {dropOf(now.Add(100*day), orgA, now, 90, 1, 9, 9, "9"), UnlawfulDrop},
		"another count":         {dropOf(now, orgA, now.Add(-90*day), 90, 2, 9, 9, "9"), UnlawfulDrop},
		"another first":         {dropOf(now, orgA, now.Add(-90*day), 90, 1, 8, 9, "9"), UnlawfulDrop},
		"another last":          {dropOf(now, orgA, now.Add(-90*day), 90, 1, 9, 10, "9"), UnlawfulDrop},
		"descending":            {dropOf(now, orgA, now.Add(-90*day), 90, 2, 9, 9, "9,8"), UnlawfulDrop},
		"twice":                 {dropOf(now, orgA, now.Add(-90*day), 90, 2, 9, 9, "9,9"), UnlawfulDrop},
		"a range of one":        {dropOf(now, orgA, now.Add(-90*day), 90, 1, 9, 9, "9-9"), UnlawfulDrop},
		"nothing":               {dropOf(now, orgA, now.Add(-90*day), 90, 0, 0, 0, ""), UnlawfulDrop},
		"zero":                  {dropOf(now, orgA, now.Add(-90*day), 90, 1, 0, 0, "0"), UnlawfulDrop},
		"spaces":                {dropOf(now, orgA, now.Add(-90*day), 90, 2, 8, 9, "8, 9"), UnlawfulDrop},
		"another sign":          {dropOf(now, orgA, now.Add(-90*day), 90, 2, 8, 9, "8;9"), UnlawfulDrop},
		"a comma at the end":    {dropOf(now, orgA, now.Add(-90*day), 90, 1, 9, 9, "9,"), UnlawfulDrop},
		"a range that is open":  {dropOf(now, orgA, now.Add(-90*day), 90, 1, 9, 9, "9-"), UnlawfulDrop},
		"recorded afterwards":   {dropOf(now, orgA, now.Add(-110*day), 90, 1, 80, 80, "80"), UnlawfulDrop},
		"too early to tell":     {dropOf(now, orgA, now.Add(-110*day), 90, 1, 60, 60, "60"), ""},
		"no details":            {audit.System("x").Event(now, orgA, dropped, audit.Target{}).Encode(), UnlawfulDrop},
		"details of other kind": {audit.System("x").Event(now, orgA, dropped, audit.Target{}).With(audit.Details{}.String("count", "x")).Encode(), Malformed},
		"another form":          {[]byte(strings.Replace(string(dropOf(now, orgA, now.Add(-90*day), 90, 1, 9, 9, "9")), `"outcome":`, `"outcome" :`, 1)), Malformed},
		// A text that says it, in an event that is another.
		"no drop at all": {audit.System("x").Event(now, orgA, audit.KeyRotated, audit.Target{}).With(audit.Details{}.Int("a", 1).String("action", "audit.dropped").Int("b", 1)).Encode(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t)
			l.fill(100, 100*day)
			l.Append(c.body)
			sum, err := l.verify(text(l.Lines(nil)), all)
			if c.kind != "" {
				if f := wrong(t, err, c.kind, 101); f.ID != id(c.body) {
					t.Errorf("it names %q", f.ID)
				}
				return
			}
			if err != nil || sum.Explained != 0 {
				t.Errorf("%v, %+v", err, sum)
			}
		})
	}
}

// Who owns the database can make the log drop an event of an hour ago, and say that it
// was old. The events before it tell that it was not.
func TestADropOfSomethingYoungIsUnlawful(t *testing.T) {
	l := newLog(t)
	l.fill(100, 200*day)
	l.fill(200, time.Hour)
	l.Append(dropOf(now, orgA, now.Add(-90*day), 90, 1, 290, 290, "290"))
	_, err := l.verify(text(l.Lines(func(i int64) bool { return i == 289 })), all)
	wrong(t, err, UnlawfulDrop, 301)

	// Fewer than 64 events with a wrong clock accuse nobody, and none from the future.
	l = newLog(t)
	l.fill(63, -1000*day)
	l.fill(63, 0)
	l.fill(100, 200*day)
	l.Append(dropOf(now, orgA, now.Add(-90*day), 90, 1, 210, 210, "210"))
	if _, err := l.verify(text(l.Lines(func(i int64) bool { return i == 209 })), all); err != nil {
		t.Error(err)
	}
}

// The gaps are held against a plain set.
func TestGapsAreASet(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var g gaps
		set := map[int64]bool{}
		size := int64(0)
		for range 40 {
			level := r.IntN(16)
			for size%(1<<level) != 0 {
				level--
			}
			if r.IntN(3) > 0 {
				g.add(size, size+1<<level)
				for i := size; i < size+1<<level; i++ {
					set[i] = true
				}
			}
			size += 1 << level
			if r.IntN(4) > 0 {
				continue
			}
			from := r.Int64N(size)
			to := from + 1 + r.Int64N(size-from)
			switch r.IntN(3) {
			case 0:
				to = min(to, from+1+r.Int64N(100))
			case 1:
				from, to = from&^(pageSize-1), (to+pageSize-1)&^(pageSize-1)
			}
			want := int64(0)
			for i := from; i < to; i++ {
				if set[i] {
					want++
					delete(set, i)
				}
			}
			if got := g.explain(from, to); got != want {
				t.Fatalf("seed %d: explain(%d, %d) = %d, want %d", seed, from, to, got, want)
			}
			first, left := int64(0), false
			for i := range set {
				if !left || i < first {
					first, left = i, true
				}
			}
			if got, found := g.first(); got != first || found != left {
				t.Fatalf("seed %d: first = %d %t, want %d %t", seed, got, found, first, left)
			}
		}
		g.explain(0, 1<<60)
		if _, found := g.first(); found || len(g.pages) > 0 || len(g.spans) > 0 {
			t.Fatalf("seed %d: something is left", seed)
		}
	}
}
