package audit

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// Details are the members of an event's details object, already encoded, in the
// order they were added. The zero Details is empty and ready to use.
type Details struct{ members []byte }

// String adds a text member.
func (d Details) String(key, value string) Details {
	d.members = appendText(d.key(key), value)
	return d
}

// Int adds a number.
func (d Details) Int(key string, value int64) Details {
	d.members = strconv.AppendInt(d.key(key), value, 10)
	return d
}

// Bool adds a truth value.
func (d Details) Bool(key string, value bool) Details {
	d.members = strconv.AppendBool(d.key(key), value)
	return d
}

// Time adds a time in RFC 3339, UTC.
func (d Details) Time(key string, value time.Time) Details {
	d.members = appendTime(d.key(key), value)
	return d
}

// Strings adds a list of texts.
func (d Details) Strings(key string, values []string) Details {
	d.members = append(d.key(key), '[')
	for i, v := range values {
		if i > 0 {
			d.members = append(d.members, ',')
		}
		d.members = appendText(d.members, v)
	}
	d.members = append(d.members, ']')
	return d
}

// key begins a member on a copy, so that Details stay values.
func (d Details) key(key string) []byte {
	b := make([]byte, len(d.members), len(d.members)+len(key)+64)
	copy(b, d.members)
	if len(b) > 0 {
		b = append(b, ',')
	}
	return append(appendText(b, key), ':')
}

// JSON gives the details object.
func (d Details) JSON() []byte { return d.appendJSON(nil) }

func (d Details) appendJSON(b []byte) []byte {
	b = append(b, '{')
	b = append(b, d.members...)
	return append(b, '}')
}

const timeLayout = "2006-01-02T15:04:05.000000Z"

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, timeLayout)
	return append(b, '"')
}

// appendText appends s as a JSON string (RFC 8259 §7), escaping no more than
// must be; bytes that are not UTF-8 become U+FFFD.
func appendText(b []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	b = append(b, '"')
	plain := 0 // where what needs no change began
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[plain:i]...)
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
			i++
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += size
		}
		plain = i
	}
	b = append(b, s[plain:]...)
	return append(b, '"')
}
