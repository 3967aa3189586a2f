package idempotency

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Kept is how long a claim is remembered.
const Kept = 24 * time.Hour

// MaxKey bounds a key, in bytes.
const MaxKey = 128

// Claim says that a caller makes something once.
type Claim struct {
	CallerID uuid.UUID
	Key      string
	// Request is a digest of what was asked.
	Request [sha256.Size]byte
	At      time.Time
}

// ValidKey reports whether key is 1 to 128 visible ASCII characters.
func ValidKey(key string) bool {
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return key != "" && len(key) <= MaxKey
}

// Store remembers claims. They are written by the transactions that make things.
type Store interface {
	// Claimed gives the ids of what was made under the claim's key, nil where
	// nothing was. CONFLICT where that was asked for by another request.
	Claimed(ctx context.Context, c Claim) ([]uuid.UUID, error)
}

type claimKey struct{}

// With gives a context that carries the claim.
func With(ctx context.Context, c Claim) context.Context {
	return context.WithValue(ctx, claimKey{}, c)
}

// From gives the claim that ctx carries, if it does.
func From(ctx context.Context) (Claim, bool) {
	c, ok := ctx.Value(claimKey{}).(Claim)
	return c, ok
}

// Reused is the refusal of a key that stands for another request (CONFLICT).
func Reused() error {
	return fault.New(fault.Conflict, fault.CodeConflict, "this Idempotency-Key was used for another request")
}

// Taken is the refusal of a key under which something has just been made, by the
// same request at the same moment (CONFLICT). Asking again gives it.
func Taken() error {
	return fault.New(fault.Conflict, fault.CodeConflict, "a request with this Idempotency-Key has just been carried out")
}
