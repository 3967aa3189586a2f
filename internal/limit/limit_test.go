package limit_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/limit"
	"git.sentryagent.ai/sentryagent-idp/internal/limit/limittest"
)

type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

func TestTheSuite(t *testing.T) {
	limittest.Run(t, func(_ *testing.T, perMinute int64) (limittest.Limiter, func(time.Duration)) {
		c := &clock{}
		c.at.Store(int64(time.Hour))
		return limit.New(perMinute, 1000, c.now), c.advance
	})
}

func TestABucketEmptiesAndRefillsEvenly(t *testing.T) {
	c := &clock{}
	b := limit.New(60, 1000, c.now)
	for range 60 {
		b.Take(t.Context(), "a", 0)
	}
	if d := b.Take(t.Context(), "a", 0); d.RetryAfter != time.Second || d.Reset != time.Minute {
		t.Fatalf("the 61st was answered %+v, want a wait of one second of a minute", d)
	}
	c.advance(time.Second)
	if !b.Take(t.Context(), "a", 0).Allowed || b.Take(t.Context(), "a", 0).Allowed {
		t.Error("a second should bring exactly one token")
	}
}

func TestManyKeysDoNotFillTheMemory(t *testing.T) {
	c := &clock{}
	b := limit.New(60, 64, c.now)
	for i := range 100_000 {
		if !b.Take(t.Context(), strconv.Itoa(i), 0).Allowed {
			t.Fatal("a fresh key was refused")
		}
	}
}
