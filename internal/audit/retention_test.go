package audit_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		sequences []int64
		most      int
		want      string
		count     int64
	}{
		{nil, 9, "", 0},
		{[]int64{7}, 9, "7", 1},
		{[]int64{31, 20, 21, 25, 24, 23, 22, 17}, 9, "17,20-25,31", 8},
		{[]int64{5, 1, 9, 2, 7}, 2, "1-2,5", 3},
		{[]int64{5, 1, 6, 9, 2, 7}, 2, "1-2,5-7", 5},
	} {
		got := audit.RangesOf(c.sequences, c.most)
		if got.String() != c.want || got.Count() != c.count {
			t.Errorf("%v are %s, %d of them; want %s, %d", c.sequences, got, got.Count(), c.want, c.count)
		}
	}
}

// shelf is a store of organizations that have each so many events to drop, in a world
// whose clock is right.
type shelf struct {
	clock  audit.Clock
	old    map[uuid.UUID]int64
	broken map[uuid.UUID]error
	all    []audit.Retained
	asked  int
	events []audit.Event
	err    error
}

func (s *shelf) WatchClock(_ context.Context, watch func(time.Time, audit.Clock) audit.Clock) error {
	s.clock = watch(time.Now().UTC(), s.clock)
	return s.err
}

func (s *shelf) Retained(context.Context, int64) ([]audit.Retained, error) { return s.all, nil }

func (s *shelf) DropEvents(_ context.Context, d audit.Drop, event func(audit.Ranges) audit.Event) (int64, error) {
	s.asked++
	if err := s.broken[d.OrganizationID]; err != nil {
		return 0, err
	}
	n := min(s.old[d.OrganizationID], int64(d.Events))
	if n == 0 {
		return 0, nil
	}
	s.old[d.OrganizationID] -= n
	s.events = append(s.events, event(audit.Ranges{{First: 1, Last: n}}))
	return n, nil
}

func (s *shelf) DropDays(context.Context) (int, error) { return len(s.events), nil }

// retentionOf makes a retention over as many organizations, on a clock that went well
// for days.
func retentionOf(t *testing.T, organizations int) (*shelf, *audit.Retention, *bytes.Buffer) {
	t.Helper()
	s := &shelf{old: map[uuid.UUID]int64{}, broken: map[uuid.UUID]error{}, clock: audit.Clock{Since: time.Now().Add(-48 * time.Hour), Seen: time.Now()}}
	for range organizations {
		s.all = append(s.all, audit.Retained{OrganizationID: uuid.New(), Days: 90})
	}
	var log bytes.Buffer
	return s, audit.NewRetention(audit.RetentionConfig{Store: s, Days: 90, Chunk: 10, Logger: slog.New(slog.NewTextHandler(&log, nil)), Now: time.Now}), &log
}

func TestRetentionGoesOnUntilNothingIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r, log := retentionOf(t, 2)
		s.old[s.all[1].OrganizationID] = 25
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(s.events) != 3 || s.asked != 5 || strings.Count(log.String(), "count=25") != 1 {
			t.Errorf("%d events tell of the drops, after %d questions: %s", len(s.events), s.asked, log)
		}
		e := s.events[2]
		want := `{"before":"` + time.Now().UTC().AddDate(0, 0, -90).Truncate(24*time.Hour).Format("2006-01-02T15:04:05.000000Z") +
			`","retentionDays":90,"count":5,"firstSequence":1,"lastSequence":5,"sequences":"1-5"}`
		if e.Action != audit.Dropped || e.OrganizationID != s.all[1].OrganizationID || string(e.Details.JSON()) != want {
			t.Errorf("the event %s of %s says %s, want %s", e.Action, e.OrganizationID, e.Details.JSON(), want)
		}
		// What is done is not asked for again before the next day.
		if err := r.Run(t.Context()); err != nil || s.asked != 5 {
			t.Errorf("the same day asks %d times, %v", s.asked, err)
		}
		time.Sleep(24 * time.Hour)
		if err := r.Run(t.Context()); err != nil || s.asked != 7 {
			t.Errorf("by the next day there were %d questions, %v", s.asked, err)
		}
	})
}

func TestOneOrganizationThatFailsKeepsNoOtherBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r, _ := retentionOf(t, 3)
		s.broken[s.all[0].OrganizationID] = errors.New("no luck")
		s.old[s.all[2].OrganizationID] = 1
		if err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), s.all[0].OrganizationID.String()) || len(s.events) != 1 {
			t.Errorf("after %v there are %d drops", err, len(s.events))
		}
		delete(s.broken, s.all[0].OrganizationID)
		s.old[s.all[0].OrganizationID] = 1
		if err := r.Run(t.Context()); err != nil || len(s.events) != 2 {
			t.Errorf("the next run drops %d, %v", len(s.events)-1, err)
		}
	})
}

func TestADatabaseThatFailsIsLeftAlone(t *testing.T) {
	s, r, _ := retentionOf(t, 100)
	for _, o := range s.all {
		s.broken[o.OrganizationID] = errors.New("no luck")
	}
	if err := r.Run(t.Context()); err == nil || s.asked != 5 {
		t.Errorf("it was asked %d times, %v", s.asked, err)
	}
	s.err = errors.New("gone")
	if err := r.Run(t.Context()); !errors.Is(err, s.err) || s.asked != 5 {
		t.Errorf("without the clock it was asked %d times, %v", s.asked-5, err)
	}
}

func TestRetentionEndsWithItsContext(t *testing.T) {
	s, r, _ := retentionOf(t, 2)
	s.old[s.all[0].OrganizationID] = 1000
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); !errors.Is(err, context.Canceled) || len(s.events) != 1 {
		t.Errorf("after the end %d chunks were dropped, %v", len(s.events), err)
	}
}

// TestAClockThatJumpsForAMomentCostsNothing looks every hour, as a server does.
func TestAClockThatJumpsForAMomentCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, r, log := retentionOf(t, 1)
		s.clock.Seen = s.clock.Seen.AddDate(-1, 0, 0) // the clock is a year ahead of what it was
		for hour := range 30 {
			s.old[s.all[0].OrganizationID] = 1
			if err := r.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if dropped := len(s.events) > 0; dropped != (hour >= 24) {
				t.Fatalf("%d hours after the jump it dropped: %v", hour, dropped)
			}
			time.Sleep(time.Hour)
		}
		if strings.Count(log.String(), "level=ERROR") != 1 {
			t.Errorf("the log says %s", log)
		}
	})
}
