package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

// maxParameter bounds a query parameter, in bytes.
const maxParameter = 512

// query is the parameters of a URL, each at most once.
type query struct {
	*findings
	values url.Values
	known  []string
}

func readQuery(r *http.Request, found *findings) (*query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fault.InvalidField("query", "format", "the query of the URL is not well-formed")
	}
	return &query{findings: found, values: values}, nil
}

func (q *query) text(name string) string {
	q.known = append(q.known, name)
	all := q.values[name]
	if len(all) == 0 {
		return ""
	}
	s := all[0]
	switch {
	case len(all) > 1:
		q.wrong(name, "duplicate", "stands in the query more than once")
	case s == "":
		q.wrong(name, "minLength", "must not be empty")
	case len(s) > maxParameter:
		q.wrong(name, "maxLength", "must be at most 512 bytes")
	case !utf8.ValidString(s) || slices.ContainsFunc([]rune(s), unicode.IsControl):
		q.wrong(name, "format", "must be text without control characters")
	default:
		return s
	}
	return ""
}

func oneOf[T ~string](q *query, name string, allowed ...T) T {
	s := T(q.text(name))
	if s != "" && !slices.Contains(allowed, s) {
		q.wrong(name, "enum", "must be "+alternatives(allowed))
		return ""
	}
	return s
}

// alternatives reads as "a, b or c".
func alternatives[T ~string](all []T) string {
	var text strings.Builder
	for i, one := range all {
		switch {
		case i > 0 && i == len(all)-1:
			text.WriteString(" or ")
		case i > 0:
			text.WriteString(", ")
		}
		text.WriteString(string(one))
	}
	return text.String()
}

func (q *query) id(name string) uuid.UUID {
	s := q.text(name)
	if s == "" {
		return uuid.Nil
	}
	id, ok := parseID(s)
	if !ok {
		q.wrong(name, "uuid", "must be a UUID")
		return uuid.Nil
	}
	return id
}

func (q *query) moment(name string) time.Time {
	s := q.text(name)
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	switch {
	case err != nil && strings.Contains(s, " "): // what a + in a URL stands for
		q.wrong(name, "format", "must be an RFC 3339 time, in which + is written %2B")
	case err != nil:
		q.wrong(name, "format", "must be an RFC 3339 time")
	case t.IsZero(): // which stands for none: the next one, at which nothing happened either
		t = t.Add(time.Microsecond)
	}
	return t
}

// count reads a whole number from 0 on, and says whether there is one.
func (q *query) count(name string) (n int64, named bool) {
	s := q.text(name)
	if s == "" {
		return 0, len(q.values[name]) > 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil:
		q.wrong(name, "type", "must be a whole number")
	case n < 0:
		q.wrong(name, "minimum", "must be at least 0")
	}
	return n, true
}

// flag reads true or false, false where there is none.
func (q *query) flag(name string) bool { return oneOf(q, name, "true", "false") == "true" }

func (q *query) page() page.Query {
	p := page.Query{Limit: page.DefaultLimit}
	if s := q.text("limit"); s != "" {
		n, err := strconv.Atoi(s)
		switch {
		case err != nil:
			q.wrong("limit", "type", "must be a whole number")
		case n < 1:
			q.wrong("limit", "minimum", "must be at least 1")
		case n > page.MaxLimit:
			q.wrong("limit", "maximum", "must be at most 200")
		default:
			p.Limit = n
		}
	}
	after, err := page.ParseCursor(q.text("cursor"))
	if f := fault.As(err); f != nil {
		q.fields = append(q.fields, f.Fields...)
	}
	p.After = after
	return p
}

// unknown refuses parameters that nobody asked for.
func (q *query) unknown() {
	names := make([]string, 0, len(q.values))
	for name := range q.values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !slices.Contains(q.known, name) {
			q.known = append(q.known, name)
			q.wrong(name, "unknown", "is not a parameter of this request")
		}
	}
}

// parseID takes the canonical form of a UUID alone.
func parseID(s string) (uuid.UUID, bool) {
	id, err := uuid.Parse(s)
	return id, err == nil && len(s) == 36 && id != uuid.Nil
}
