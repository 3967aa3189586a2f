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

// remembered is how long after it retired a key is still read: clocks differ, and
// the list of keys shows what has just happened.
const remembered = 24 * time.Hour

// Unknown key ids make the ring read the store once in refreshPause, and wait for
// it no longer than refreshTimeout.
const (
	refreshPause   = time.Second
	refreshTimeout = 5 * time.Second
)

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
	cfg   Config
	state atomic.Pointer[[]key]

	mu     sync.Mutex // held while the store is read, so that no older reading replaces a newer one
	tried  time.Time  // when Refresh last read the store
	failed error      // what became of the last reading
}

type key struct {
	Stored
	public crypto.PublicKey
	signer Signer
}

// NewRing makes an empty ring; Load or Ensure fill it.
func NewRing(cfg Config) *Ring {
	r := &Ring{cfg: cfg}
	r.state.Store(&[]key{})
	return r
}

// Ensure reads all keys, and makes the first one where there is none.
func (r *Ring) Ensure(ctx context.Context, by audit.Origin) error {
	if err := r.Load(ctx); err != nil || len(*r.state.Load()) > 0 {
		return err
	}
	first, err := r.make()
	if err != nil {
		return fmt.Errorf("making the first signing key: %w", err)
	}
	err = r.cfg.Store.ChangeSigningKeys(ctx, func(current []Stored) ([]Stored, audit.Event, error) {
		if len(current) > 0 { // another node was faster
			return nil, audit.Event{}, ErrUnchanged
		}
		now := r.now()
		first.CreatedAt, first.ActivatesAt = now, now
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
	if activateIn < 0 {
		return Stored{}, fault.InvalidField("activateIn", "minimum", "activateIn must not be negative: a key cannot have signed before it was made")
	}
	return r.succeed(ctx, by, activateIn, false)
}

// Replace makes the next key, which signs at once, and retires every older one now:
// what those signed verifies no more.
func (r *Ring) Replace(ctx context.Context, by audit.Origin) (Stored, error) {
	return r.succeed(ctx, by, 0, true)
}

func (r *Ring) succeed(ctx context.Context, by audit.Origin, activateIn time.Duration, revokeOld bool) (Stored, error) {
	next, err := r.make()
	if err != nil {
		return Stored{}, fmt.Errorf("making a signing key: %w", err)
	}
	err = r.cfg.Store.ChangeSigningKeys(ctx, func(current []Stored) ([]Stored, audit.Event, error) {
		now := r.now()
		next.CreatedAt, next.ActivatesAt = now, now.Add(activateIn)
		if n := len(current); n > 0 && !now.After(current[n-1].CreatedAt) {
			next.CreatedAt = current[n-1].CreatedAt.Add(time.Microsecond) // Signer goes by who is newest
		}
		retires := next.ActivatesAt.Add(r.cfg.MaxTokenTTL + skew)
		if revokeOld {
			retires = now
		}
		changed := []Stored{next}
		var revoked []string
		for _, old := range current {
			switch {
			case revokeOld && (key{Stored: old}).published(now):
				revoked = append(revoked, old.KID)
			case !old.RetiresAt.IsZero():
				continue
			}
			old.RetiresAt = retires
			changed = append(changed, old)
		}
		return changed, rotated(by, now, next, revoked...), nil
	})
	if err != nil {
		return Stored{}, fmt.Errorf("rotating the signing key: %w", err)
	}
	return next, r.Load(ctx)
}

func (r *Ring) now() time.Time { return r.cfg.Now().UTC().Truncate(time.Microsecond) }

// make makes a key without its times. An RSA key takes up to seconds, so no
// transaction waits for it.
func (r *Ring) make() (Stored, error) {
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
	return Stored{KID: kid, Alg: r.cfg.Alg, Sealed: r.cfg.Root.Seal(kid, der), PublicJWK: jwk}, nil
}

func rotated(by audit.Origin, now time.Time, k Stored, revoked ...string) audit.Event {
	details := audit.Details{}.String("alg", string(k.Alg)).Time("activatesAt", k.ActivatesAt)
	if len(revoked) > 0 {
		details = details.Strings("revokedKeys", revoked)
	}
	return by.Event(now, organization.DefaultID(), audit.KeyRotated, audit.Target{Type: audit.TypeKey, ID: k.KID}).With(details)
}

// Load reads all keys but those that retired long ago: that one of those cannot be
// opened any more is no reason not to serve. What only the previous root secret
// opens is sealed anew.
func (r *Ring) Load(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.load(ctx)
}

func (r *Ring) load(ctx context.Context) error {
	all, err := r.read(ctx)
	if err == nil {
		r.state.Store(&all)
	}
	r.failed = err
	return err
}

func (r *Ring) read(ctx context.Context) ([]key, error) {
	stored, err := r.cfg.Store.SigningKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the signing keys: %w", err)
	}
	longAgo := r.now().Add(-remembered)
	all := make([]key, 0, len(stored))
	for _, s := range stored {
		if !s.RetiresAt.IsZero() && s.RetiresAt.Before(longAgo) {
			continue
		}
		k, err := r.open(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("opening the signing key %s: %w", s.KID, err)
		}
		all = append(all, k)
	}
	return all, nil
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
// second however often it is called. It fails while the last reading has: a key
// that could not be read is not unknown.
func (r *Ring) Refresh(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	if now.Sub(r.tried) < refreshPause {
		return r.failed
	}
	r.tried = now
	// It reads for all who meet unknown keys, so a caller who hangs up does not end it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTimeout)
	defer cancel()
	return r.load(ctx)
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
