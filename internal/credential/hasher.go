package credential

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// Mode says what is kept of a secret.
type Mode string

// The modes (SECRET_HASHER). HMAC keeps the fingerprint alone, so that its
// secrets do not survive the loss of the root secret.
const (
	Bcrypt Mode = "bcrypt"
	HMAC   Mode = "hmac"
)

const bcryptCost = 10 // R37

// Bounds on the slow way: guesses must never buy bcrypt time.
const (
	failureBudget = 5
	failureWindow = time.Minute
	maxBudgets    = 10_000
)

// Verifier is what is kept of a secret.
type Verifier struct {
	// Bcrypt needs no server key; nil in HMAC mode.
	Bcrypt []byte
	// Fingerprint is keyed, and cheap to check, by the server key of that id.
	Fingerprint      []byte
	FingerprintKeyID string
}

// Hasher makes and checks verifiers.
type Hasher struct {
	root *keys.Root
	mode Mode
	now  func() time.Time
	pool chan struct{}

	mu       sync.Mutex
	failures map[string]budget
}

type budget struct {
	failed int
	until  time.Time
}

// NewHasher makes a hasher.
func NewHasher(root *keys.Root, mode Mode, now func() time.Time) *Hasher {
	return &Hasher{
		root: root, mode: mode, now: now, failures: map[string]budget{},
		pool: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
	}
}

// Hash makes the verifier of a secret. It fails with UNAVAILABLE when ctx ends
// before it is its turn.
func (h *Hasher) Hash(ctx context.Context, s Secret) (Verifier, error) {
	var v Verifier
	v.Fingerprint, v.FingerprintKeyID = h.root.Fingerprint(s.Value())
	if h.mode == Bcrypt {
		// Making credentials must not take every core from those who use them.
		err := h.turn(ctx)
		if err != nil {
			return Verifier{}, err
		}
		defer func() { <-h.pool }()
		if v.Bcrypt, err = bcrypt.GenerateFromPassword([]byte(s.Value().Reveal()), bcryptCost); err != nil {
			return Verifier{}, fmt.Errorf("hashing a secret: %w", err)
		}
	}
	return v, nil
}

// Verify reports whether s is the secret v was made of. While the fingerprint's
// key is known it decides alone. Otherwise bcrypt does, within a bounded pool and
// a budget of failures per client; renewed is then the verifier to keep from now
// on. It fails with RATE_LIMITED, or UNAVAILABLE when ctx ends first.
func (h *Hasher) Verify(ctx context.Context, s Secret, v Verifier, client string) (ok bool, renewed *Verifier, err error) {
	sum, known, current := h.root.FingerprintUnder(v.FingerprintKeyID, s.Value())
	if known {
		ok = subtle.ConstantTimeCompare(sum, v.Fingerprint) == 1
		if ok && !current {
			renewed = h.renew(s, v)
		}
		return ok, renewed, nil
	}
	h.Dummy()
	if len(v.Bcrypt) == 0 {
		return false, nil, nil
	}
	ok, err = h.slow(ctx, s, v, client)
	if ok {
		renewed = h.renew(s, v)
	}
	return ok, renewed, err
}

func (h *Hasher) renew(s Secret, v Verifier) *Verifier {
	v.Fingerprint, v.FingerprintKeyID = h.root.Fingerprint(s.Value())
	return &v
}

func (h *Hasher) slow(ctx context.Context, s Secret, v Verifier, client string) (bool, error) {
	if err := h.turn(ctx); err != nil {
		return false, err
	}
	defer func() { <-h.pool }()
	if wait := h.charge(client); wait > 0 {
		return false, &fault.Error{
			Kind: fault.RateLimited, Code: fault.CodeRateLimited,
			Message: "too many failed authentications", RetryAfter: wait,
		}
	}
	err := bcrypt.CompareHashAndPassword(v.Bcrypt, []byte(s.Value().Reveal()))
	if errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		return false, nil
	}
	h.giveBack(client)
	return err == nil, err
}

// turn waits for a place in the pool. It fails with UNAVAILABLE when ctx ends first.
func (h *Hasher) turn(ctx context.Context) error {
	if ctx.Err() == nil {
		select {
		case h.pool <- struct{}{}:
			return nil
		case <-ctx.Done():
		}
	}
	return fault.UnavailableBecause(context.Cause(ctx))
}

// charge counts a failure before it is one, so that guesses made at the same time
// share one budget. It says how long a client that used it up must wait.
func (h *Hasher) charge(client string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	b := h.failures[client]
	if !now.Before(b.until) {
		b = budget{until: now.Add(failureWindow)}
	}
	if b.failed >= failureBudget {
		return b.until.Sub(now)
	}
	b.failed++
	h.makeRoom(now)
	h.failures[client] = b
	return 0
}

// giveBack takes back what was charged for a secret that was not wrong.
func (h *Hasher) giveBack(client string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.failures[client]
	if b.failed--; b.failed <= 0 {
		delete(h.failures, client)
		return
	}
	h.failures[client] = b
}

func (h *Hasher) makeRoom(now time.Time) {
	if len(h.failures) >= maxBudgets {
		maps.DeleteFunc(h.failures, func(_ string, b budget) bool { return !now.Before(b.until) })
	}
	if len(h.failures) >= maxBudgets {
		clear(h.failures) // forgetting is cheaper than being filled up
	}
}

// Dummy costs what checking a fingerprint costs, so that an unknown client takes
// as long as a known one.
func (h *Hasher) Dummy() {
	sum, _ := h.root.Fingerprint(secret.New("sidp_ a secret that nobody was given"))
	subtle.ConstantTimeCompare(sum, sum)
}
