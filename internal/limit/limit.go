package limit

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/request"
)

// shards keeps callers from waiting for each other on one lock.
const shards = 32

// Buckets is a set of token buckets, one per key, each refilled evenly over a
// minute. It is safe for concurrent use.
type Buckets struct {
	perMinute int64
	maxKeys   int
	now       func() time.Time
	seed      maphash.Seed
	shards    [shards]shard
}

type shard struct {
	mu      sync.Mutex
	buckets map[string]bucket
}

// bucket holds the time at which it will be full again: a single number says how
// full it is at any moment.
type bucket struct{ full time.Time }

// New makes buckets of perMinute tokens and remembers at most maxKeys of them.
func New(perMinute int64, maxKeys int, now func() time.Time) *Buckets {
	b := &Buckets{perMinute: perMinute, maxKeys: max(maxKeys/shards, 1), now: now, seed: maphash.MakeSeed()}
	for i := range b.shards {
		b.shards[i].buckets = map[string]bucket{}
	}
	return b
}

// Take takes one token from the bucket of the key, whose size is perMinute, or
// the common one where that is zero.
func (b *Buckets) Take(_ context.Context, key string, perMinute int64) request.Budget {
	if perMinute == 0 {
		perMinute = b.perMinute
	}
	each := time.Minute / time.Duration(perMinute)
	now := b.now()
	s := &b.shards[maphash.String(b.seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	full := s.buckets[key].full
	if full.Before(now) {
		full = now
	}
	after := full.Add(each)
	if missing := after.Sub(now); missing > time.Minute {
		return request.Budget{Limit: perMinute, RetryAfter: missing - time.Minute, Reset: full.Sub(now)}
	}
	if _, known := s.buckets[key]; !known && len(s.buckets) >= b.maxKeys {
		s.sweep(now)
		if len(s.buckets) >= b.maxKeys {
			clear(s.buckets)
		}
	}
	s.buckets[key] = bucket{full: after}
	return request.Budget{Allowed: true, Limit: perMinute, Remaining: int64((time.Minute - after.Sub(now)) / each), Reset: after.Sub(now)}
}

// sweep forgets the buckets that are full again.
func (s *shard) sweep(now time.Time) {
	for key, b := range s.buckets {
		if !b.full.After(now) {
			delete(s.buckets, key)
		}
	}
}

// Off allows everything; it stands in for Buckets where limits are turned off.
type Off struct{}

// Take always allows.
func (Off) Take(context.Context, string, int64) request.Budget { return request.Budget{Allowed: true} }
