package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

// dropped is the action of an event that records what retention deleted.
const dropped audit.Action = "audit.dropped"

// The rules of a drop (docs/audit-format.md, "What was dropped").
const (
	leastAge  = 24 * time.Hour
	clockSkew = time.Hour
	rounding  = time.Minute
)

// drop is what an audit.dropped event says.
type drop struct {
	at            time.Time
	before        time.Time
	retentionDays int64
	sequences     string
	count         int64
	first, last   int64
}

// maybeDrop is a quick look that lets every drop pass.
func maybeDrop(body []byte) bool { return bytes.Contains(body, []byte(`,"action":"audit.dropped",`)) }

// readDrop reads an event whose bytes hash to its leaf. It gives nil for another action.
func readDrop(body []byte) (*drop, error) {
	e, err := audit.Decode(body)
	if err != nil || !bytes.Equal(e.Encode(), body) {
		return nil, errForm
	}
	if e.Action != dropped {
		return nil, nil //nolint:nilnil // no drop, and no failure
	}
	var details struct {
		Before        time.Time `json:"before"`
		RetentionDays int64     `json:"retentionDays"`
		Count         int64     `json:"count"`
		FirstSequence int64     `json:"firstSequence"`
		LastSequence  int64     `json:"lastSequence"`
		Sequences     string    `json:"sequences"`
	}
	if err := json.Unmarshal(e.Details.JSON(), &details); err != nil {
		return nil, errors.New("its details are not those of a drop")
	}
	return &drop{
		at: e.Time, before: details.Before, retentionDays: details.RetentionDays, sequences: details.Sequences,
		count: details.Count, first: details.FirstSequence, last: details.LastSequence,
	}, nil
}

// check holds a drop at the place sequence in the log to the rules.
func (d *drop) check(sequence int64, now time.Time, seen *ages) error {
	switch kept := d.at.Sub(d.before); {
	case d.before.IsZero():
		return errors.New("it does not say before when")
	case d.at.After(now.Add(clockSkew)):
		return fmt.Errorf("it is dated %s, and the clock here says %s", d.at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case kept < leastAge:
		return errors.New("it dropped events that were less than 24 hours old")
	case d.retentionDays < 1 || kept/(24*time.Hour) < 1e5 && kept+rounding < time.Duration(min(d.retentionDays, 1e5))*24*time.Hour:
		return fmt.Errorf("it dropped events younger than the retention of %d days that it names", d.retentionDays)
	case d.last >= sequence:
		return fmt.Errorf("it names event %d, which is not before it", d.last)
	}
	if since, ok := seen.before(d.last); ok && since > d.before.Add(clockSkew).UnixMilli() {
		return fmt.Errorf("it names event %d, which was recorded after %s, and says that it dropped what was before %s",
			d.last, time.UnixMilli(since).UTC().Format(time.RFC3339), d.before.UTC().Format(time.RFC3339))
	}
	return nil
}

// each calls do with the ranges of leaves, from (included) to (excluded), that the drop names.
func (d *drop) each(do func(from, to int64)) error {
	errList := errors.New("its sequences are not as its other details say")
	var count, end int64 // end is the last sequence so far
	for rest := []byte(d.sequences); ; {
		from, after, ok := cutNumber(rest)
		if !ok || from <= end || count == 0 && from != d.first {
			return errList
		}
		to := from
		if len(after) > 0 && after[0] == '-' {
			if to, after, ok = cutNumber(after[1:]); !ok || to <= from {
				return errList
			}
		}
		count, end = count+to-from+1, to
		do(from-1, to)
		if len(after) == 0 {
			break
		}
		if after[0] != ',' {
			return errList
		}
		rest = after[1:]
	}
	if count != d.count || end != d.last {
		return errList
	}
	return nil
}

// evidence is how many events in a row must agree that some time had passed, so that
// one node with a wrong clock accuses nobody; step keeps their record small.
const (
	evidence = 64
	step     = 10 * time.Minute
)

// ages tells, from the events that are shown, what time it was when a place in the log
// was reached: that of the earliest of so many events in a row before it.
type ages struct {
	marks    []mark // ascending in both
	n        int
	earliest int64
}

type mark struct{ sequence, millis int64 }

func (a *ages) add(sequence, millis int64) {
	if a.n == 0 || millis < a.earliest {
		a.earliest = millis
	}
	if a.n++; a.n < evidence {
		return
	}
	a.n = 0
	if last := len(a.marks) - 1; last < 0 || a.earliest >= a.marks[last].millis+step.Milliseconds() {
		a.marks = append(a.marks, mark{sequence, a.earliest})
	}
}

// before gives a time, in milliseconds since 1970, that had passed before the event.
func (a *ages) before(sequence int64) (millis int64, ok bool) {
	i := sort.Search(len(a.marks), func(i int) bool { return a.marks[i].sequence >= sequence })
	if i == 0 {
		return 0, false
	}
	return a.marks[i-1].millis, true
}
