package transparency

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// Sealer encrypts what is kept in the database, as keys.Root does.
type Sealer interface {
	Seal(name string, data []byte) []byte
	// Open also says whether it should be sealed anew.
	Open(name string, sealed []byte) (data []byte, outdated bool, err error)
}

// sealedAs is the name the log's key is sealed under.
const sealedAs = "audit log key"

// Key is the key that the log signs its checkpoints with. It signs nothing else, and
// it does not change.
type Key struct {
	signer   note.Signer
	verifier note.Verifier
	public   string
}

// EnsureKey gives the log's key, making it where there is none; then origin becomes the
// log's name for good. Any number of nodes may call it at once.
func EnsureKey(ctx context.Context, store KeyStore, sealer Sealer, origin string) (*Key, error) {
	stored, err := store.EnsureLogKey(ctx, func() (StoredKey, error) {
		private, public, err := newKey(origin)
		if err != nil {
			return StoredKey{}, err
		}
		return StoredKey{Origin: origin, Verifier: public, Sealed: sealer.Seal(sealedAs, []byte(private.Reveal()))}, nil
	})
	if err != nil {
		return nil, err
	}
	private, outdated, err := sealer.Open(sealedAs, stored.Sealed)
	if err != nil {
		return nil, fmt.Errorf("the log's key: %w", err)
	}
	if outdated {
		if err := store.ResealLogKey(ctx, sealer.Seal(sealedAs, private)); err != nil {
			return nil, err
		}
	}
	return readKey(secret.New(string(private)), stored.Verifier)
}

// newKey makes a key; the private one is in C2SP's form of a signer key.
func newKey(origin string) (private secret.Value, public string, err error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return secret.Value{}, "", fmt.Errorf("making the log's key: %w", err)
	}
	return secret.New(skey), vkey, nil
}

func readKey(private secret.Value, public string) (*Key, error) {
	signer, err := note.NewSigner(private.Reveal())
	if err != nil {
		return nil, errors.New("the log's key cannot be read") // the cause may repeat it
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		return nil, fmt.Errorf("the log's public key: %w", err)
	}
	if signer.Name() != verifier.Name() || signer.KeyHash() != verifier.KeyHash() {
		return nil, errors.New("the log's key does not belong to its public key")
	}
	return &Key{signer: signer, verifier: verifier, public: public}, nil
}

// Origin is the log's name.
func (k *Key) Origin() string { return k.verifier.Name() }

// Verifier gives the public key as a C2SP verifier key, one line without its end.
func (k *Key) Verifier() string { return k.public }

func (k *Key) sign(c Checkpoint) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: c.Text()}, k.signer)
	if err != nil {
		return nil, fmt.Errorf("signing a checkpoint: %w", err)
	}
	return signed, nil
}
