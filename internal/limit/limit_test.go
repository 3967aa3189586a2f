package limit_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/limit"
)

type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func TestABucketEmptiesAndRefillsEvenly(t *testing.T) {
	c := &clock{}
	c.at.Store(int64(time.Hour))
	b := limit.New(60, 1000, c.now)
	for i := range 60 {
		if d := b.Take("a", 0); !d.Allowed || d.Remaining != int64(59-i) || d.Limit != 60 {
			t.Fatalf("take %d: %+v", i, d)
		}
	}
	d := b.Take("a", 0)
	if d.Allowed || d.RetryAfter != time.Second || d.Remaining != 0 {
		t.Fatalf("the 61st was answered %+v, want a wait of one second", d)
	}
	if other := b.Take("b", 0); !other.Allowed {
		t.Error("one key emptied the bucket of another")
	}
	c.advance(time.Second)
	if !b.Take("a", 0).Allowed || b.Take("a", 0).Allowed {
		t.Error("a second should bring exactly one token")
	}
	err := b.Allow(t.Context(), "a", 0)
	if f := fault.As(err); f == nil || f.Kind != fault.RateLimited || f.RetryAfter <= 0 {
		t.Errorf("Allow = %v, want RATE_LIMITED with a time to wait", err)
	}
}

func TestManyKeysDoNotFillTheMemory(t *testing.T) {
	c := &clock{}
	b := limit.New(60, 64, c.now)
	for i := range 100_000 {
		if !b.Take(strconv.Itoa(i), 0).Allowed {
			t.Fatal("a fresh key was refused")
		}
	}
}

func TestConcurrentCallersGetNoMoreThanThereIs(t *testing.T) {
	c := &clock{}
	b := limit.New(100, 1000, c.now)
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				if b.Take("a", 0).Allowed {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if allowed.Load() != 100 {
		t.Errorf("%d were allowed of a bucket of 100", allowed.Load())
	}
}
