package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// MinRootSecret is the least length of a root secret, in bytes.
const MinRootSecret = 32

// ErrSealed says that neither the current nor the previous root secret opens
// what was sealed.
var ErrSealed = errors.New("the root secret does not open this key; was JWT_SECRET changed without JWT_SECRET_PREVIOUS?")

// Root holds the keys derived from the root secret, and from the one before it.
type Root struct {
	current  derived
	previous *derived
}

type derived struct {
	aead          cipher.AEAD
	fingerprint   []byte
	fingerprintID string
}

// NewRoot derives the keys. previous may be zero.
func NewRoot(current, previous secret.Value) (*Root, error) {
	now, err := derive(current)
	if err != nil {
		return nil, err
	}
	r := &Root{current: *now}
	if !previous.IsZero() {
		if r.previous, err = derive(previous); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func derive(root secret.Value) (*derived, error) {
	if len(root.Reveal()) < MinRootSecret {
		return nil, fmt.Errorf("the root secret must have at least %d bytes", MinRootSecret)
	}
	sealing, err := hkdf.Key(sha256.New, []byte(root.Reveal()), nil, "agentidp signing keys v1", 32)
	if err != nil {
		return nil, fmt.Errorf("deriving the sealing key: %w", err)
	}
	fingerprint, err := hkdf.Key(sha256.New, []byte(root.Reveal()), nil, "agentidp secret fingerprints v1", 32)
	if err != nil {
		return nil, fmt.Errorf("deriving the fingerprint key: %w", err)
	}
	block, err := aes.NewCipher(sealing)
	if err != nil {
		return nil, fmt.Errorf("making the sealing cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("making the sealing cipher: %w", err)
	}
	id := sha256.Sum256(fingerprint)
	return &derived{aead: aead, fingerprint: fingerprint, fingerprintID: hex.EncodeToString(id[:6])}, nil
}

// Seal encrypts data under the name it is stored by.
func (r *Root) Seal(name string, data []byte) []byte {
	return r.current.aead.Seal(nil, nil, data, []byte(name)) //nolint:gosec // the AEAD makes a random nonce itself
}

// Open decrypts what Seal made. outdated says that only the previous root secret
// opened it, so that it should be sealed anew. It fails with ErrSealed.
func (r *Root) Open(name string, sealed []byte) (data []byte, outdated bool, err error) {
	if data, err = r.current.aead.Open(nil, nil, sealed, []byte(name)); err == nil {
		return data, false, nil
	}
	if r.previous != nil {
		if data, err = r.previous.aead.Open(nil, nil, sealed, []byte(name)); err == nil {
			return data, true, nil
		}
	}
	return nil, false, ErrSealed
}

// Fingerprint gives the keyed fingerprint of a secret and the id of its key.
func (r *Root) Fingerprint(s secret.Value) (sum []byte, keyID string) {
	return r.current.sum(s), r.current.fingerprintID
}

// FingerprintUnder gives the fingerprint under the key of that id, and whether
// the key is known and is the current one.
func (r *Root) FingerprintUnder(keyID string, s secret.Value) (sum []byte, known, current bool) {
	switch {
	case keyID == r.current.fingerprintID:
		return r.current.sum(s), true, true
	case r.previous != nil && keyID == r.previous.fingerprintID:
		return r.previous.sum(s), true, false
	}
	return nil, false, false
}

func (d *derived) sum(s secret.Value) []byte {
	mac := hmac.New(sha256.New, d.fingerprint)
	mac.Write([]byte(s.Reveal()))
	return mac.Sum(nil)
}

// NewRootSecret makes a random root secret.
func NewRootSecret() secret.Value {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails: crypto/rand ends the process instead
	return secret.New(hex.EncodeToString(raw[:]))
}
