package keys

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
)

// ErrUnchanged is what a change of the signing keys returns when there is
// nothing to write.
var ErrUnchanged = errors.New("the signing keys stay as they are")

// skew is how long a key stays published after its last token has expired.
const skew = 5 * time.Minute

// refreshPause is how long unknown key ids wait between two reads of the store.
const refreshPause = time.Second

// Stored is a signing key as it is kept.
type Stored struct {
	KID         string
	Alg         Alg
	Sealed      []byte
	PublicJWK   []byte
	CreatedAt   time.Time
	ActivatesAt time.Time
	// RetiresAt is zero until a successor has been made.
	RetiresAt time.Time
}

// Store keeps the signing keys.
type Store interface {
	// SigningKeys gives all keys, oldest first.
	SigningKeys(ctx context.Context) ([]Stored, error)
	// ChangeSigningKeys lets change decide on the present keys, oldest first, and
	// writes what it returns (new or changed, by kid) and its event in one
	// transaction. With ErrUnchanged, which it gives back, or another error nothing
	// is written.
	ChangeSigningKeys(ctx context.Context, change func(current []Stored) ([]Stored, audit.Event, error)) error
	// ResealSigningKey replaces how a key is sealed, not what it is. It may be
	// called twice.
	ResealSigningKey(ctx context.Context, kid string, sealed []byte) error
}

// Config is what a Ring needs.
type Config struct {
	Store Store
	Root  *Root
	// Alg is what new keys are made for.
	Alg Alg
	// MaxTokenTTL is how long a token may live after it was signed.
	MaxTokenTTL time.Duration
	Now         func() time.Time
}

// Ring is the set of signing keys as this node knows it.
type Ring struct {
	cfg       Config
	state     atomic.Pointer[[]key]
	mu        sync.Mutex
	refreshed time.Time
}

type key struct {
	Stored
	public crypto.PublicKey
	signer Signer
}

// NewRing makes an empty ring; Ensure fills it.
func NewRing(cfg Config) *Ring {
	r := &Ring{cfg: cfg}
	r.state.Store(&[]key{})
	return r
}

// Ensure makes the first key where there is none, and reads all keys.
func (r *Ring) Ensure(ctx context.Context, by audit.Origin) error {
	err := r.cfg.Store.ChangeSigningKeys(ctx, func(current []Stored) ([]Stored, audit.Event, error) {
		if len(current) > 0 {
			return nil, audit.Event{}, ErrUnchanged
		}
		now := r.now()
		first, err := r.make(now, now)
		if err != nil {
			return nil, audit.Event{}, err
		}
		return []Stored{first}, rotated(by, now, first), nil
	})
	if err != nil && !errors.Is(err, ErrUnchanged) {
		return fmt.Errorf("making the first signing key: %w", err)
	}
	return r.Load(ctx)
}

// Rotate makes the next key, publishes it at once and lets it sign after
// activateIn; the older keys retire when their last token has expired.
func (r *Ring) Rotate(ctx context.Context, by audit.Origin, activateIn time.Duration) (Stored, error) {
	var next Stored
	err := r.cfg.Store.ChangeSigningKeys(ctx, func(current []Stored) ([]Stored, audit.Event, error) {
		now := r.now()
		created := now
		if n := len(current); n > 0 && !now.After(current[n-1].CreatedAt) {
			created = current[n-1].CreatedAt.Add(time.Microsecond) // Signer goes by who is newest
		}
		var err error
		if next, err = r.make(created, now.Add(activateIn)); err != nil {
			return nil, audit.Event{}, err
		}
		changed := []Stored{next}
		for _, old := range current {
			if old.RetiresAt.IsZero() {
				old.RetiresAt = next.ActivatesAt.Add(r.cfg.MaxTokenTTL + skew)
				changed = append(changed, old)
			}
		}
		return changed, rotated(by, now, next), nil
	})
	if err != nil {
		return Stored{}, fmt.Errorf("rotating the signing key: %w", err)
	}
	return next, r.Load(ctx)
}

func (r *Ring) now() time.Time { return r.cfg.Now().UTC().Truncate(time.Microsecond) }

func (r *Ring) make(created, activates time.Time) (Stored, error) {
	private, err := generate(r.cfg.Alg)
	if err != nil {
		return Stored{}, err
	}
	kid, jwk, err := publish(r.cfg.Alg, private)
	if err != nil {
		return Stored{}, err
	}
	der, err := encodePrivate(private)
	if err != nil {
		return Stored{}, err
	}
	return Stored{KID: kid, Alg: r.cfg.Alg, Sealed: r.cfg.Root.Seal(kid, der), PublicJWK: jwk, CreatedAt: created, ActivatesAt: activates}, nil
}

func rotated(by audit.Origin, now time.Time, k Stored) audit.Event {
	return by.Event(now, organization.DefaultID(), audit.KeyRotated, audit.Target{Type: audit.TypeKey, ID: k.KID}).
		With(audit.Details{}.String("alg", string(k.Alg)).Time("activatesAt", k.ActivatesAt))
}

// Load reads all keys. What only the previous root secret opens is sealed anew.
func (r *Ring) Load(ctx context.Context) error {
	stored, err := r.cfg.Store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	all := make([]key, 0, len(stored))
	for _, s := range stored {
		k, err := r.open(ctx, s)
		if err != nil {
			return fmt.Errorf("opening the signing key %s: %w", s.KID, err)
		}
		all = append(all, k)
	}
	r.state.Store(&all)
	return nil
}

func (r *Ring) open(ctx context.Context, s Stored) (key, error) {
	der, outdated, err := r.cfg.Root.Open(s.KID, s.Sealed)
	if err != nil {
		return key{}, err
	}
	private, err := decodePrivate(der)
	if err != nil {
		return key{}, err
	}
	if outdated {
		if err := r.cfg.Store.ResealSigningKey(ctx, s.KID, r.cfg.Root.Seal(s.KID, der)); err != nil {
			return key{}, err
		}
	}
	return key{Stored: s, public: private.Public(), signer: &localSigner{kid: s.KID, alg: s.Alg, key: private}}, nil
}

// Refresh reads the keys again because an unknown one was met, at most once a
// second however often it is called.
func (r *Ring) Refresh(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	if now.Sub(r.refreshed) < refreshPause {
		return nil
	}
	r.refreshed = now
	return r.Load(ctx)
}

// Signer gives the key that signs at the time now: of the active ones the newest
// made, as a key made later overtakes one that is still to activate. A clock that
// was set back before all of them does not stop the server: the oldest signs.
func (r *Ring) Signer(now time.Time) (Signer, error) {
	all := *r.state.Load()
	for _, k := range slices.Backward(all) {
		if !k.ActivatesAt.After(now) && k.published(now) {
			return k.signer, nil
		}
	}
	for _, k := range all {
		if k.published(now) {
			return k.signer, nil
		}
	}
	return nil, fault.UnavailableBecause(errors.New("no signing key is published"))
}

// PublicKey gives the key of that id while it is published.
func (r *Ring) PublicKey(kid string) (crypto.PublicKey, Alg, bool) {
	now := r.cfg.Now()
	for _, k := range *r.state.Load() {
		if k.KID == kid && k.published(now) {
			return k.public, k.Alg, true
		}
	}
	return nil, "", false
}

func (k key) published(now time.Time) bool { return k.RetiresAt.IsZero() || now.Before(k.RetiresAt) }

// JWKS gives the published keys as a JSON Web Key Set (RFC 7517 §5).
func (r *Ring) JWKS() ([]byte, error) {
	set := struct {
		Keys []json.RawMessage `json:"keys"`
	}{Keys: []json.RawMessage{}}
	now := r.cfg.Now()
	for _, k := range *r.state.Load() {
		if k.published(now) {
			set.Keys = append(set.Keys, k.PublicJWK)
		}
	}
	return json.Marshal(set)
}

// List gives the keys this node knows, oldest first.
func (r *Ring) List() []Stored {
	var all []Stored
	for _, k := range *r.state.Load() {
		all = append(all, k.Stored)
	}
	return all
}

// Algs gives the algorithms of the published keys, each once.
func (r *Ring) Algs() []string {
	var algs []string
	now := r.cfg.Now()
	for _, k := range *r.state.Load() {
		if k.published(now) && !slices.Contains(algs, string(k.Alg)) {
			algs = append(algs, string(k.Alg))
		}
	}
	return algs
}
