package limittest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
)

// Limiter is a set of token buckets.
type Limiter interface {
	Take(ctx context.Context, key string, perMinute int64) request.Budget
}

// Open gives buckets of perMinute tokens that share nothing with others, and a way
// to let time pass for them.
type Open func(t *testing.T, perMinute int64) (buckets Limiter, pass func(time.Duration))

// Run holds an implementation against the suite.
func Run(t *testing.T, open Open) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Open){
		"a bucket empties and refills":              emptiesAndRefills,
		"keys have buckets of their own":            keysAreApart,
		"a key may have a size of its own":          ownSize,
		"a refusal is RATE_LIMITED":                 refusal,
		"concurrent callers get what there is":      concurrent,
		"a bucket that is full again starts afresh": startsAfresh,
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}

// drain takes all that there is and gives the refusal. Time may pass meanwhile, so
// a little more than the size may be had.
func drain(t *testing.T, b Limiter, key string, perMinute int64) (refused request.Budget) {
	t.Helper()
	start, each := time.Now(), time.Minute/time.Duration(perMinute)
	for taken := int64(0); ; {
		d := b.Take(t.Context(), key, perMinute)
		if d.Limit != perMinute {
			t.Fatalf("take %d: %+v, want a limit of %d", taken, d, perMinute)
		}
		most := perMinute + int64(time.Since(start)/each) + 1
		if !d.Allowed {
			if taken < perMinute || d.Remaining != 0 || d.RetryAfter <= 0 || d.RetryAfter > each || d.Reset <= time.Minute-2*each || d.Reset > time.Minute {
				t.Fatalf("after %d of %d it was answered %+v", taken, perMinute, d)
			}
			return d
		}
		if taken++; taken > most {
			t.Fatalf("%d were taken of a bucket of %d", taken, perMinute)
		}
		if d.Remaining < perMinute-taken || d.Remaining > perMinute-1 || d.RetryAfter != 0 || d.Reset <= 0 || d.Reset > time.Minute {
			t.Fatalf("take %d of %d: %+v", taken, perMinute, d)
		}
	}
}

func emptiesAndRefills(t *testing.T, open Open) {
	const perMinute = 600
	b, pass := open(t, perMinute)
	refused := drain(t, b, "a", perMinute)
	pass(refused.RetryAfter)
	if d := b.Take(t.Context(), "a", 0); !d.Allowed {
		t.Errorf("after the wait of %s: %+v, want a token", refused.RetryAfter, d)
	}
}

func keysAreApart(t *testing.T, open Open) {
	b, _ := open(t, 5)
	drain(t, b, "a", 5)
	if d := b.Take(t.Context(), "b", 0); !d.Allowed || d.Remaining != 4 || d.Limit != 5 {
		t.Errorf("another key: %+v, want the first of 5", d)
	}
}

func ownSize(t *testing.T, open Open) {
	b, _ := open(t, 5)
	drain(t, b, "a", 7)
	drain(t, b, "b", 1)
	if d := b.Take(t.Context(), "fast", 100_000_000); !d.Allowed || d.Remaining < 99_999_000 {
		t.Errorf("a bucket as large as can be set: %+v", d)
	}
}

func refusal(t *testing.T, open Open) {
	b, _ := open(t, 2)
	for range 2 {
		if err := b.Take(t.Context(), "a", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	err := b.Take(t.Context(), "a", 0).Err()
	if f := fault.As(err); f == nil || f.Kind != fault.RateLimited || f.RetryAfter <= 0 || f.RetryAfter > 30*time.Second {
		t.Errorf("Err = %v, want RATE_LIMITED with a time to wait", err)
	}
}

func concurrent(t *testing.T, open Open) {
	const perMinute = 100
	b, _ := open(t, perMinute)
	var allowed atomic.Int64
	var callers sync.WaitGroup
	start := time.Now()
	for range 16 {
		callers.Go(func() {
			for range 20 {
				if b.Take(t.Context(), "a", 0).Allowed {
					allowed.Add(1)
				}
			}
		})
	}
	callers.Wait()
	refilled := int64(time.Since(start)/(time.Minute/perMinute)) + 1
	if n := allowed.Load(); n < perMinute || n > perMinute+refilled {
		t.Errorf("%d were allowed of a bucket of %d", n, perMinute)
	}
}

// startsAfresh has a bucket so fast that it is full again within a moment.
func startsAfresh(t *testing.T, open Open) {
	const perMinute = 600_000
	b, pass := open(t, perMinute)
	d := b.Take(t.Context(), "a", 0)
	pass(d.Reset + 5*time.Millisecond)
	if d := b.Take(t.Context(), "a", 0); !d.Allowed || d.Remaining != perMinute-1 {
		t.Errorf("a bucket that is full again: %+v, want all but one", d)
	}
}
