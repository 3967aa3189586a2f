package organization

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"
)

// Reader reads organizations.
type Reader interface {
	// Organization gives one, or NOT_FOUND.
	Organization(ctx context.Context, id uuid.UUID) (Organization, error)
}

// Cached is a Reader that remembers what it read for a while, so that limits
// cost no query per token.
type Cached struct {
	inner Reader
	cache *otter.Cache[uuid.UUID, Organization]
}

// NewCached remembers at most size organizations, each for age.
func NewCached(inner Reader, size int, age time.Duration) (*Cached, error) {
	cache, err := otter.New(&otter.Options[uuid.UUID, Organization]{
		MaximumSize: size, ExpiryCalculator: otter.ExpiryWriting[uuid.UUID, Organization](age),
	})
	if err != nil {
		return nil, err
	}
	return &Cached{inner: inner, cache: cache}, nil
}

// Organization gives one as it was at most a while ago, or NOT_FOUND.
func (c *Cached) Organization(ctx context.Context, id uuid.UUID) (Organization, error) {
	if o, ok := c.cache.GetIfPresent(id); ok {
		return o, nil
	}
	o, err := c.inner.Organization(ctx, id)
	if err != nil {
		return Organization{}, err
	}
	c.cache.Set(id, o)
	return o, nil
}
