package export

import (
	"errors"
	"fmt"
	"slices"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

// Entry is an event as the log holds it.
type Entry struct {
	// Sequence is its place in the log, from 1.
	Sequence int64
	// Body is its canonical bytes.
	Body []byte
}

// ErrBody says that what stands in the log is not the canonical bytes of an event
// of version 1.
var ErrBody = errors.New("these are not the canonical bytes of an event of version 1")

// How canonical bytes begin, and where the id ends.
const (
	beginning = `{"v":1,"id":"`
	idEnd     = len(beginning) + 36
)

// ID gives the event's id; it fails with ErrBody.
func (e Entry) ID() (string, error) {
	if len(e.Body) < idEnd+2 || string(e.Body[:len(beginning)]) != beginning || e.Body[len(e.Body)-1] != '}' {
		return "", ErrBody
	}
	return string(e.Body[len(beginning):idEnd]), nil
}

// Event reads the event; it fails with ErrBody.
func (e Entry) Event() (audit.Event, error) {
	if _, err := e.ID(); err != nil {
		return audit.Event{}, err
	}
	event, err := audit.Decode(e.Body)
	if err != nil {
		return audit.Event{}, errors.Join(ErrBody, err)
	}
	event.Sequence = e.Sequence
	return event, nil
}

// The names of the formats.
const (
	NDJSON = "ndjson"
	CSV    = "csv"
	OCSF   = "ocsf"
)

// Names lists the formats.
func Names() []string { return []string{NDJSON, CSV, OCSF} }

// Format is one form of events.
type Format struct {
	Name string
	// MediaType is the Content-Type of a whole export.
	MediaType string

	header string
	append func(b []byte, e Entry) ([]byte, error)
}

// New gives the format of a name. version is the product's, which OCSF tells. It
// fails where there is no such format.
func New(name, version string) (Format, error) {
	switch name {
	case NDJSON:
		return Format{Name: name, MediaType: ndjsonType, append: AppendLine}, nil
	case CSV:
		return Format{Name: name, MediaType: "text/csv; charset=utf-8", header: csvHeader, append: appendRow}, nil
	case OCSF:
		return Format{Name: name, MediaType: ndjsonType, append: ocsf{version: version}.appendLine}, nil
	}
	return Format{}, fmt.Errorf("%q is none of the formats %v", name, slices.Sorted(slices.Values(Names())))
}

const ndjsonType = "application/x-ndjson"

// AppendHeader appends what stands before the first event; mostly nothing.
func (f Format) AppendHeader(b []byte) []byte { return append(b, f.header...) }

// Append appends one event with the end of its line. It fails with ErrBody, and
// then gives b as it was.
func (f Format) Append(b []byte, e Entry) ([]byte, error) { return f.append(b, e) }
