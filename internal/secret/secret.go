package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
)

// hidden is what a Value shows.
const hidden = "[hidden]"

// Value is a secret text. Only Reveal gives it away.
type Value struct{ text string }

// New makes a secret of the text.
func New(text string) Value { return Value{text: text} }

// Reveal gives the secret itself.
func (v Value) Reveal() string { return v.text }

// IsZero reports whether there is no secret.
func (v Value) IsZero() bool { return v.text == "" }

// Equal compares in constant time, whatever the lengths.
func (v Value) Equal(other Value) bool {
	a, b := sha256.Sum256([]byte(v.text)), sha256.Sum256([]byte(other.text))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// String hides the secret.
func (Value) String() string { return hidden }

// GoString hides the secret.
func (Value) GoString() string { return hidden }

// Format hides the secret from every verb.
func (Value) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// MarshalText hides the secret.
func (Value) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// MarshalJSON hides the secret.
func (Value) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// LogValue hides the secret.
func (Value) LogValue() slog.Value { return slog.StringValue(hidden) }
