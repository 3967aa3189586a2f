package page

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Bounds on the number of items a page may be asked to hold.
const (
	DefaultLimit = 50
	MaxLimit     = 200
)

// Cursor is the position of a row in a list ordered by time, then id, both
// descending. The zero Cursor stands before the first row.
type Cursor struct {
	Time time.Time
	ID   uuid.UUID
}

// Query asks for at most Limit rows after After.
type Query struct {
	Limit int
	After Cursor
}

// Page is one page of a list; Next is empty on the last one.
type Page[T any] struct {
	Items []T
	Next  string
}

const (
	cursorVersion = 1
	cursorSize    = 1 + 8 + 16
)

// IsZero reports whether the cursor stands before the first row.
func (c Cursor) IsZero() bool { return c.Time.IsZero() }

// String gives the cursor's opaque text, empty for the zero Cursor.
func (c Cursor) String() string {
	if c.IsZero() {
		return ""
	}
	raw := make([]byte, 0, cursorSize)
	raw = append(raw, cursorVersion)
	raw = binary.BigEndian.AppendUint64(raw, uint64(c.Time.UnixMicro())) // the sign survives the round trip
	raw = append(raw, c.ID[:]...)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// ParseCursor reads what Cursor.String gave. Anything else is a validation
// error that names the field cursor.
func ParseCursor(s string) (Cursor, error) {
	if s == "" {
		return Cursor{}, nil
	}
	invalid := fault.InvalidField("cursor", "format", "cursor must be the nextCursor of an earlier page")
	if len(s) != base64.RawURLEncoding.EncodedLen(cursorSize) {
		return Cursor{}, invalid
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != cursorSize || raw[0] != cursorVersion {
		return Cursor{}, invalid
	}
	c := Cursor{Time: time.UnixMicro(int64(binary.BigEndian.Uint64(raw[1:9]))).UTC()} //nolint:gosec // see String
	copy(c.ID[:], raw[9:])
	if c.String() != s {
		return Cursor{}, invalid
	}
	return c, nil
}

// Cut makes a page of rows fetched with one more than limit, so that it is
// known without counting whether another page follows.
func Cut[T any](rows []T, limit int, at func(T) Cursor) Page[T] {
	if len(rows) <= limit {
		return Page[T]{Items: rows}
	}
	rows = rows[:limit]
	return Page[T]{Items: rows, Next: at(rows[limit-1]).String()}
}
