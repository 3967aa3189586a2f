package api

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// wrong names a field of the object, where it stands in the body.
func (o *object) wrong(field, rule, message string) {
	o.findings.wrong(o.prefix+field, rule, message)
}

// object gives a field that is an object itself; nil where it is absent or wrong.
func (o *object) object(name string) *object {
	raw, ok := o.member(name)
	if !ok {
		o.wrong(name, "required", "is required")
		return nil
	}
	inner := &object{findings: o.findings, raw: raw, prefix: o.prefix + name + "."}
	if json.Unmarshal(raw, &inner.members) != nil || inner.members == nil {
		o.wrong(name, "type", "must be an object")
		return nil
	}
	return inner
}

// some reads a text that is either absent or not empty.
func (o *object) some(name string) string {
	text := o.text(name)
	if text == nil {
		return ""
	}
	if *text == "" {
		o.wrong(name, "minLength", "must not be empty")
	}
	return *text
}

// ids reads a list of UUIDs that is either absent or not empty.
func (o *object) ids(name string) []uuid.UUID {
	texts := o.texts(name)
	if texts == nil {
		return nil
	}
	if len(*texts) == 0 {
		o.wrong(name, "minItems", "must name at least one")
	}
	ids := make([]uuid.UUID, 0, len(*texts))
	for i, text := range *texts {
		id, ok := parseID(text)
		if !ok {
			o.wrong(name+"["+strconv.Itoa(i)+"]", "uuid", "must be a UUID")
			return nil
		}
		ids = append(ids, id)
	}
	return ids
}

// past reads a time that is not null.
func (o *object) past(name string) time.Time {
	text := o.some(name)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		o.wrong(name, "format", "must be an RFC 3339 time")
		return time.Time{}
	}
	if t.IsZero() { // which stands for none: the next one, before which nothing happened either
		t = t.Add(time.Microsecond)
	}
	return t.UTC().Truncate(time.Microsecond)
}

// flag reads true or false, false where it is absent.
func (o *object) flag(name string) bool {
	value := read[bool](o, name, "true or false")
	return value != nil && *value
}
