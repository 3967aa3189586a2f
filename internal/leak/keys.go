package leak

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
)

// Bounds on what a reporter says of itself, and on the file of keys.
const (
	maxKeyID     = 128
	maxSignature = 256
	maxKeys      = 32
	// MaxKeyFile is in bytes.
	MaxKeyFile = 64 << 10
)

// ErrUnsigned says that no key that is known signed the report.
var ErrUnsigned = errors.New("the report is not signed by a key that is known here")

// Keys are the public keys of reporters, by id.
type Keys struct{ known map[string]*ecdsa.PublicKey }

// ParseKeys reads keys in the form in which a host publishes them, a JSON object
// {"public_keys":[{"key_identifier","key","is_current"}]} whose keys are PEM of ECDSA on
// P-256. One that says that it is not current is left out.
func ParseKeys(text []byte) (Keys, error) {
	var file struct {
		PublicKeys []struct {
			ID      string `json:"key_identifier"`
			Key     string `json:"key"`
			Current *bool  `json:"is_current"`
		} `json:"public_keys"`
	}
	if len(text) > MaxKeyFile {
		return Keys{}, errors.New("must be at most 64 KiB")
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return Keys{}, fmt.Errorf("must be a JSON object with public_keys: %w", err)
	}
	if len(file.PublicKeys) == 0 || len(file.PublicKeys) > maxKeys {
		return Keys{}, fmt.Errorf("public_keys must hold 1 to %d keys", maxKeys)
	}
	keys := Keys{known: map[string]*ecdsa.PublicKey{}}
	for _, one := range file.PublicKeys {
		if one.Current != nil && !*one.Current {
			continue
		}
		if one.ID == "" || len(one.ID) > maxKeyID {
			return Keys{}, fmt.Errorf("key_identifier must have 1 to %d characters", maxKeyID)
		}
		key, err := parseKey(one.Key)
		if err != nil {
			return Keys{}, fmt.Errorf("key %s: %w", one.ID, err)
		}
		keys.known[one.ID] = key
	}
	return keys, nil
}

func parseKey(text string) (*ecdsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("must be a PEM block PUBLIC KEY")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("must be an ECDSA key on P-256")
	}
	return key, nil
}

// Verify checks that the key of that id signed the body: signature is base64 of an ASN.1
// ECDSA signature over its SHA-256. It fails with ErrUnsigned.
func (k Keys) Verify(id, signature string, body []byte) error {
	key, known := k.known[id]
	if !known || len(signature) > maxSignature {
		return ErrUnsigned
	}
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return ErrUnsigned
	}
	sum := sha256.Sum256(body)
	if !ecdsa.VerifyASN1(key, sum[:], raw) {
		return ErrUnsigned
	}
	return nil
}
