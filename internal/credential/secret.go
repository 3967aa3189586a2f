package credential

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// The shape of a client secret: the prefix lets scanners find it, the key id
// finds its row, and the checksum lets a mistyped one be refused unread.
const (
	secretPrefix   = "sidp_"
	keyIDLength    = 12
	entropyLength  = 43 // base62 digits that hold 256 bits
	checksumLength = 6
	// SecretLength is the length of every secret in bytes, below bcrypt's 72.
	SecretLength = len(secretPrefix) + keyIDLength + entropyLength + checksumLength
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// ErrMalformedSecret says that a text cannot be a secret of ours.
var ErrMalformedSecret = errors.New("the client secret is malformed")

// Secret is a well-formed client secret.
type Secret struct {
	keyID string
	value secret.Value
}

// KeyID gives the part that names the credential; it is not secret.
func (s Secret) KeyID() string { return s.keyID }

// Value gives the whole secret.
func (s Secret) Value() secret.Value { return s.value }

// NewSecret makes a secret from random bytes.
func NewSecret(random io.Reader) (Secret, error) {
	body, err := randomDigits(random, keyIDLength+entropyLength)
	if err != nil {
		return Secret{}, fmt.Errorf("reading random bytes: %w", err)
	}
	text := secretPrefix + body
	return Secret{keyID: body[:keyIDLength], value: secret.New(text + checksum(text))}, nil
}

// IsKeyID reports whether the text has the form of a key id.
func IsKeyID(text string) bool {
	return len(text) == keyIDLength && !strings.ContainsFunc(text, func(r rune) bool { return !strings.ContainsRune(base62, r) })
}

// randomDigits draws base62 digits without bias.
func randomDigits(random io.Reader, n int) (string, error) {
	const fair = 256 - 256%len(base62)
	digits := make([]byte, 0, n)
	var buf [64]byte
	for len(digits) < n {
		if _, err := io.ReadFull(random, buf[:]); err != nil {
			return "", err
		}
		for _, b := range buf {
			if int(b) < fair && len(digits) < n {
				digits = append(digits, base62[int(b)%len(base62)])
			}
		}
	}
	return string(digits), nil
}

// ParseSecret checks form and checksum, before any hashing or reading is paid
// for. It fails with ErrMalformedSecret.
func ParseSecret(text string) (Secret, error) {
	if len(text) != SecretLength || !strings.HasPrefix(text, secretPrefix) {
		return Secret{}, ErrMalformedSecret
	}
	for i := len(secretPrefix); i < len(text); i++ {
		if strings.IndexByte(base62, text[i]) < 0 {
			return Secret{}, ErrMalformedSecret
		}
	}
	body, sum := text[:len(text)-checksumLength], text[len(text)-checksumLength:]
	if subtle.ConstantTimeCompare([]byte(sum), []byte(checksum(body))) != 1 {
		return Secret{}, ErrMalformedSecret
	}
	return Secret{keyID: text[len(secretPrefix) : len(secretPrefix)+keyIDLength], value: secret.New(text)}, nil
}

func checksum(text string) string {
	n := crc32.ChecksumIEEE([]byte(text))
	var digits [checksumLength]byte
	for i := checksumLength - 1; i >= 0; i-- {
		digits[i] = base62[n%62]
		n /= 62
	}
	return string(digits[:])
}
