package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Range is sequences that follow each other, both ends included.
type Range struct{ First, Last int64 }

// Ranges are ascending and do not touch.
type Ranges []Range

// RangesOf gives the ranges of the sequences, in whatever order these are: the first
// most of them.
func RangesOf(sequences []int64, most int) Ranges {
	sorted := slices.Clone(sequences)
	slices.Sort(sorted)
	var all Ranges
	for _, n := range sorted {
		switch last := len(all) - 1; {
		case last >= 0 && all[last].Last+1 >= n:
			all[last].Last = n
		case len(all) == most:
			return all
		default:
			all = append(all, Range{n, n})
		}
	}
	return all
}

// Count is how many sequences there are.
func (r Ranges) Count() (n int64) {
	for _, one := range r {
		n += one.Last - one.First + 1
	}
	return n
}

// String is as the event of a drop names them: 17,20-25,31.
func (r Ranges) String() string {
	var b strings.Builder
	for i, one := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(one.First, 10))
		if one.Last > one.First {
			b.WriteByte('-')
			b.WriteString(strconv.FormatInt(one.Last, 10))
		}
	}
	return b.String()
}

// Retained is an organization whose old events go.
type Retained struct {
	OrganizationID uuid.UUID
	// Days is how long its events are kept.
	Days int64
}

// Drop is one deletion: the oldest events of an organization before a time.
type Drop struct {
	Retained
	Before time.Time
	// Events and Ranges are how many go at most, and in how many ranges of sequences.
	Events, Ranges int
}

// Clock is what was seen of the database's clock.
type Clock struct {
	// Since is from when on it went as clocks do, and Seen when it was looked at last.
	Since, Seen time.Time
}

// RetentionStore deletes old events.
type RetentionStore interface {
	// WatchClock gives watch the database's clock and what was seen of it before, and
	// keeps what watch makes of it, in one transaction.
	WatchClock(ctx context.Context, watch func(database time.Time, seen Clock) Clock) error
	// Retained gives the organizations that are not on legal hold. standard is the
	// retention in days of those that have none of their own.
	Retained(ctx context.Context, standard int64) ([]Retained, error)
	// DropEvents deletes events that the signed tree covers, none that tells of a drop,
	// and appends the event that tells of them, in one transaction. It gives how many
	// went: none where there are none, or where the organization has meanwhile another
	// retention or a legal hold. It may be called by any number of nodes.
	DropEvents(ctx context.Context, d Drop, event func(Ranges) Event) (int64, error)
	// DropDays frees what whole days held of which nothing is left, and gives how many
	// there were. What is in use is left for the next time.
	DropDays(ctx context.Context) (int, error)
}

// RetentionConfig is what a Retention needs.
type RetentionConfig struct {
	Store RetentionStore
	// Days is the retention of organizations that have none of their own.
	Days   int
	Logger *slog.Logger
	Now    func() time.Time

	// Chunk is how many events one transaction drops at most, in at most Ranges ranges
	// of sequences; between two is a Pause. Zero members get defaults.
	Chunk, Ranges int
	Pause         time.Duration
}

// Bounds of a Retention.
const (
	defaultChunk = 20_000
	// So many ranges are at most about 40 kB of text, in one event.
	defaultRanges = 2_000
	defaultPause  = 100 * time.Millisecond
	// maxFailures in a row end a run: what fails for so many will fail for all.
	maxFailures = 5
	// maxSkew is how far the clocks of a node and the database may be apart.
	maxSkew = 5 * time.Minute
	// steady is how long a clock must have gone as clocks do before events go by it, and
	// unseen for how long nobody may have looked.
	steady = 24 * time.Hour
	unseen = 25 * time.Hour
)

// Retention drops the bodies of events that are past their organization's retention,
// counted in whole days (UTC). Any number of nodes may run one.
type Retention struct {
	cfg RetentionConfig
	// done is up to when an organization has nothing left to drop.
	done map[uuid.UUID]time.Time
}

// NewRetention makes a retention.
func NewRetention(cfg RetentionConfig) *Retention {
	if cfg.Chunk == 0 {
		cfg.Chunk = defaultChunk
	}
	if cfg.Ranges == 0 {
		cfg.Ranges = defaultRanges
	}
	if cfg.Pause == 0 {
		cfg.Pause = defaultPause
	}
	return &Retention{cfg: cfg, done: map[uuid.UUID]time.Time{}}
}

// Run drops what is due. It fails with UNAVAILABLE or ctx's error, and what it dropped
// until then is dropped; the next run goes on. Where a clock cannot be trusted it drops
// nothing and says so in the log, which is no failure. It must not be called by two at
// a time.
func (r *Retention) Run(ctx context.Context) error {
	now, ok, err := r.clock(ctx)
	if err != nil || !ok {
		return err
	}
	all, err := r.cfg.Store.Retained(ctx, int64(r.cfg.Days))
	if err != nil {
		return err
	}
	var failures []error
	for _, one := range all {
		if err := r.organization(ctx, one, now); err != nil {
			failures = append(failures, fmt.Errorf("organization %s: %w", one.OrganizationID, err))
			if len(failures) == maxFailures || ctx.Err() != nil {
				return errors.Join(failures...)
			}
		}
	}
	days, err := r.cfg.Store.DropDays(ctx)
	if days > 0 {
		r.cfg.Logger.InfoContext(ctx, "freed what dropped days of the record held", "days", days)
	}
	return errors.Join(append(failures, err)...)
}

// organization drops what one organization has to drop, chunk by chunk.
func (r *Retention) organization(ctx context.Context, one Retained, now time.Time) error {
	before := now.UTC().Add(-time.Duration(max(one.Days, 1)) * 24 * time.Hour).Truncate(24 * time.Hour)
	if r.done[one.OrganizationID].Equal(before) {
		return nil
	}
	d := Drop{Retained: one, Before: before, Events: r.cfg.Chunk, Ranges: r.cfg.Ranges}
	var total int64
	defer func() {
		if total > 0 {
			r.cfg.Logger.InfoContext(ctx, "dropped old events of the record", "organization", one.OrganizationID, "count", total, "before", before, "retentionDays", one.Days)
		}
	}()
	for {
		n, err := r.cfg.Store.DropEvents(ctx, d, func(gone Ranges) Event { return d.event(r.cfg.Now(), gone) })
		if err != nil {
			return err
		}
		if n == 0 {
			r.done[one.OrganizationID] = before
			return nil
		}
		total += n
		select {
		case <-time.After(r.cfg.Pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// event tells of a drop (docs/audit-format.md, "What was dropped").
func (d Drop) event(now time.Time, gone Ranges) Event {
	return System("retention").Event(now, d.OrganizationID, Dropped, Target{Type: TypeOrganization, ID: d.OrganizationID.String()}).With(Details{}.
		Time("before", d.Before).Int("retentionDays", d.Days).Int("count", gone.Count()).
		Int("firstSequence", gone[0].First).Int("lastSequence", gone[len(gone)-1].Last).String("sequences", gone.String()))
}

// clock gives the time by which events are old: the earlier one of this node and of the
// database. A clock that jumped says nothing until it went on for a day: one that is a
// year ahead for a moment must not cost the record a year.
func (r *Retention) clock(ctx context.Context) (now time.Time, ok bool, err error) {
	var jumped, skewed bool
	var was, is Clock
	var node time.Time
	err = r.cfg.Store.WatchClock(ctx, func(database time.Time, seen Clock) Clock {
		node, was, is = r.cfg.Now().UTC(), seen, Clock{Since: seen.Since, Seen: database}
		jumped = database.After(seen.Seen.Add(unseen)) || database.Before(seen.Seen.Add(-maxSkew))
		skewed = node.Sub(database).Abs() > maxSkew
		if jumped || skewed {
			is.Since = database
		}
		return is
	})
	switch {
	case err != nil:
		return time.Time{}, false, err
	case skewed:
		r.cfg.Logger.ErrorContext(ctx, "no event is dropped: the clocks of this node and of the database differ", "node", node, "database", is.Seen)
		return time.Time{}, false, nil
	case jumped && was.Seen.Unix() > 0:
		r.cfg.Logger.ErrorContext(ctx, "no event is dropped for a day: the clock jumped, or nobody looked for long", "from", was.Seen, "to", is.Seen)
		return time.Time{}, false, nil
	}
	if node.Before(is.Seen) {
		return node, is.Seen.Sub(is.Since) >= steady, nil
	}
	return is.Seen, is.Seen.Sub(is.Since) >= steady, nil
}
