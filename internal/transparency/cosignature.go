package transparency

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

const (
	// cosignatureType is the byte that tells a key of cosignature/v1 from one that
	// signs notes themselves, 0x01 (C2SP signed-note).
	cosignatureType = 0x04
	// timeSize is the size of the time before the signature.
	timeSize = 8
	// maxKeyText bounds the text of a key.
	maxKeyText    = 1 << 10
	privatePrefix = "PRIVATE+KEY+"
)

// errKey says that a text is not the key it should be. What the text was is not
// repeated: it may be a private key.
var errKey = errors.New("this is not a key of a witness")

// NewCosignatureVerifier reads the verifier key of a witness (C2SP tlog-cosignature,
// cosignature/v1): its name, key hash, and base64 of the byte 0x04 and an Ed25519
// public key, with a + between them. The key of a log is not taken for one.
func NewCosignatureVerifier(vkey string) (note.Verifier, error) {
	name, hash, public, err := splitKey(vkey, ed25519.PublicKeySize)
	if err != nil {
		return nil, err
	}
	if hash != keyHash(name, public) {
		return nil, fmt.Errorf("%w: its hash is not that of its name and key", errKey)
	}
	return &cosignatureVerifier{name: name, hash: hash, public: public}, nil
}

// splitKey takes <name>+<hash>+<base64 of the type and size bytes> apart.
func splitKey(text string, size int) (name string, hash uint32, material []byte, err error) {
	if len(text) > maxKeyText {
		return "", 0, nil, fmt.Errorf("%w: it is longer than %d bytes", errKey, maxKeyText)
	}
	parts := strings.SplitN(text, "+", 3) // base64 may hold more of them
	if len(parts) != 3 {
		return "", 0, nil, fmt.Errorf("%w: it has not the form <name>+<hash>+<base64>", errKey)
	}
	if !validName(parts[0]) {
		return "", 0, nil, fmt.Errorf("%w: its name is empty, or holds a space or a control character", errKey)
	}
	wide, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil || len(parts[1]) != 8 {
		return "", 0, nil, fmt.Errorf("%w: its hash is not 8 hexadecimal digits", errKey)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(raw) != 1+size || strings.ContainsAny(parts[2], "\r\n") { // which base64 skips
		return "", 0, nil, fmt.Errorf("%w: it does not hold base64 of %d bytes", errKey, 1+size)
	}
	if raw[0] != cosignatureType {
		return "", 0, nil, fmt.Errorf("%w: its type is 0x%02x, that of cosignature/v1 is 0x%02x", errKey, raw[0], cosignatureType)
	}
	return parts[0], uint32(wide), raw[1:], nil
}

// validName reports whether a name can stand in a signature line (C2SP signed-note).
func validName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool {
		return r == '+' || unicode.IsSpace(r) || unicode.IsControl(r)
	})
}

// keyHash is the first 4 bytes of SHA-256(name || 0x0A || type || public key).
func keyHash(name string, public []byte) uint32 {
	h := sha256.Sum256(append([]byte(name+"\n"+string(rune(cosignatureType))), public...))
	return binary.BigEndian.Uint32(h[:])
}

type cosignatureVerifier struct {
	name   string
	hash   uint32
	public ed25519.PublicKey
}

// Name is the name of the witness.
func (v *cosignatureVerifier) Name() string { return v.name }

// KeyHash tells keys of one name apart.
func (v *cosignatureVerifier) KeyHash() uint32 { return v.hash }

// Verify verifies 8 bytes of time and an Ed25519 signature.
func (v *cosignatureVerifier) Verify(text, sig []byte) bool {
	if len(sig) != timeSize+ed25519.SignatureSize {
		return false
	}
	seconds := binary.BigEndian.Uint64(sig)
	return seconds <= math.MaxInt64 && ed25519.Verify(v.public, cosigned(seconds, text), sig[timeSize:])
}

// cosigned is what a witness signs.
func cosigned(seconds uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(seconds, 10)+"\n"), text...)
}

// Cosigner signs checkpoints as a witness does (cosignature/v1). It is a note.Signer.
type Cosigner struct {
	name    string
	hash    uint32
	private ed25519.PrivateKey
	now     func() time.Time
}

// NewCosignerKey makes the private key of a witness of that name. Its form is C2SP's
// of a signer key, with the type 0x04.
func NewCosignerKey(name string) (secret.Value, error) {
	if !validName(name) {
		return secret.Value{}, errors.New("the name of a witness must not be empty, or hold a space, a + or a control character")
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return secret.Value{}, fmt.Errorf("making the key of a witness: %w", err)
	}
	material := append([]byte{cosignatureType}, private.Seed()...)
	return secret.New(fmt.Sprintf("%s%s+%08x+%s", privatePrefix, name, keyHash(name, public), base64.StdEncoding.EncodeToString(material))), nil
}

// NewCosigner reads the private key of a witness. Signatures carry the time that now
// gives.
func NewCosigner(key secret.Value, now func() time.Time) (*Cosigner, error) {
	text, ok := strings.CutPrefix(key.Reveal(), privatePrefix)
	if !ok {
		return nil, fmt.Errorf("%w: it does not begin with %s", errKey, privatePrefix)
	}
	name, hash, seed, err := splitKey(text, ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	c := &Cosigner{name: name, hash: hash, private: ed25519.NewKeyFromSeed(seed), now: now}
	if hash != keyHash(name, c.public()) {
		return nil, fmt.Errorf("%w: its hash is not that of its name and key", errKey)
	}
	return c, nil
}

func (c *Cosigner) public() ed25519.PublicKey {
	return ed25519.PublicKey(c.private[ed25519.SeedSize:])
}

// Name is the name of the witness.
func (c *Cosigner) Name() string { return c.name }

// KeyHash tells keys of one name apart.
func (c *Cosigner) KeyHash() uint32 { return c.hash }

// Sign gives 8 bytes of time and the signature. It fails where the clock stands
// before 1970.
func (c *Cosigner) Sign(text []byte) ([]byte, error) {
	unix := c.now().Unix()
	if unix < 0 {
		return nil, errors.New("cosigning: the clock stands before 1970")
	}
	seconds := uint64(unix)
	return append(binary.BigEndian.AppendUint64(nil, seconds), ed25519.Sign(c.private, cosigned(seconds, text))...), nil
}

// VerifierKey is the text that others verify this witness with.
func (c *Cosigner) VerifierKey() string {
	material := append([]byte{cosignatureType}, c.public()...)
	return fmt.Sprintf("%s+%08x+%s", c.name, c.hash, base64.StdEncoding.EncodeToString(material))
}
