package verify

import (
	"fmt"
	"strings"
)

// Kind tells failures apart, for people and for scripts.
type Kind string

// The kinds of failure.
const (
	// Altered: an event's bytes hash to something else than the log holds.
	Altered Kind = "altered"
	// Missing: a leaf that should be here is not.
	Missing Kind = "missing"
	// Reordered: a leaf comes twice, or not in its place.
	Reordered Kind = "reordered"
	// Inserted: there are more leaves than the checkpoint's tree has.
	Inserted Kind = "inserted"
	// WrongTree: the leaves or a proof do not lead to the checkpoint's root.
	WrongTree Kind = "wrong tree"
	// WrongSignature: a checkpoint that the log's key did not sign.
	WrongSignature Kind = "wrong signature"
	// Forked: the log signed two checkpoints that contradict each other.
	Forked Kind = "forked"
	// RolledBack: the log is smaller than it was.
	RolledBack Kind = "rolled back"
	// CutOff: the export ends before its last checkpoint.
	CutOff Kind = "cut off"
	// Unexplained: an event's body is gone and no drop of the log names it.
	Unexplained Kind = "unexplained gap"
	// UnlawfulDrop: an audit.dropped event breaks the rules of drops.
	UnlawfulDrop Kind = "unlawful drop"
	// UnknownVersion: an event in a form that this verifier does not know.
	UnknownVersion Kind = "unknown version"
	// Malformed: a line, an event or a proof that is not as the format says.
	Malformed Kind = "malformed"
)

// Failure says what is wrong with a record.
type Failure struct {
	Kind Kind
	// Sequence is that of the first wrong event, 0 where there is none to name. Where
	// Last is larger, the first wrong event is only known to lie from Sequence to Last.
	Sequence, Last int64
	// ID is the event's id where it is known.
	ID string
	// Line counts from 1; 0 where the failure is of no line.
	Line   int64
	Detail string
}

// Error names the event and what is wrong with it.
func (f *Failure) Error() string {
	var b strings.Builder
	b.WriteString("the record is wrong: " + string(f.Kind))
	switch {
	case f.Sequence > 0 && f.Last > f.Sequence:
		fmt.Fprintf(&b, ", first in the events %d to %d", f.Sequence, f.Last)
	case f.Sequence > 0:
		fmt.Fprintf(&b, ", first at event %d", f.Sequence)
	}
	if f.ID != "" {
		fmt.Fprintf(&b, " (%s)", f.ID)
	}
	if f.Line > 0 {
		fmt.Fprintf(&b, ", line %d", f.Line)
	}
	b.WriteString(": " + f.Detail)
	return b.String()
}
