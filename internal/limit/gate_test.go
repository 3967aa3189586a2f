package limit_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/limit"
)

// entered tells which caller came in, or was refused.
type entered struct {
	who   int
	leave func()
	err   error
}

// queue lets callers wait at the gate one after the other.
func queue(t *testing.T, g *limit.Gate, c *clock, ahead int, each time.Duration, n int) <-chan entered {
	t.Helper()
	all := make(chan entered, n)
	for i := range n {
		c.advance(each)
		go func() {
			leave, err := g.Enter(t.Context())
			all <- entered{i, leave, err}
		}()
		await(t, g, ahead+i+1)
	}
	return all
}

func await(t *testing.T, g *limit.Gate, waiting int) {
	t.Helper()
	for limit := time.After(30 * time.Second); g.Waiting() != waiting; {
		select {
		case <-limit:
			t.Fatalf("%d wait, want %d", g.Waiting(), waiting)
		default:
		}
	}
}

func enter(t *testing.T, g *limit.Gate) func() {
	t.Helper()
	leave, err := g.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

func TestABurstIsServedInItsOrderHoweverLongItTakes(t *testing.T) {
	c := &clock{}
	g := limit.NewGate(1, 100, c.now)
	leave := enter(t, g)
	all := queue(t, g, c, 0, time.Millisecond, 20)
	for i := range 20 {
		c.advance(20 * time.Millisecond) // the last of them waits for 400 ms
		leave()
		got := <-all
		if got.err != nil || got.who != i {
			t.Fatalf("turn %d went to %d, %v", i, got.who, got.err)
		}
		leave = got.leave
	}
	leave()
}

func TestWhenWaitsStayLongTheNewestGoFirstAndTheLateAreRefused(t *testing.T) {
	c := &clock{}
	g := limit.NewGate(1, 100, c.now)
	leave := enter(t, g)
	late := queue(t, g, c, 0, 0, 3)
	c.advance(1100 * time.Millisecond)
	fresh := queue(t, g, c, 3, time.Millisecond, 3)
	for _, want := range []int{2, 1, 0} {
		leave()
		got := <-fresh
		if got.err != nil || got.who != want {
			t.Fatalf("the turn went to %d, %v, want the newest, %d", got.who, got.err, want)
		}
		leave = got.leave
	}
	for range 3 {
		if got := <-late; fault.As(got.err) == nil || fault.As(got.err).Kind != fault.Unavailable || fault.As(got.err).RetryAfter <= 0 {
			t.Errorf("who waited too long got %v, want UNAVAILABLE and when to come back", got.err)
		}
	}
	// When nobody waits any more, it is over.
	leave()
	leave = enter(t, g)
	all := queue(t, g, c, 0, time.Millisecond, 2)
	leave()
	if got := <-all; got.who != 0 {
		t.Errorf("after the overload the turn went to %d, want who came first", got.who)
	}
}

func TestNoMoreWaitThanMay(t *testing.T) {
	c := &clock{}
	g := limit.NewGate(1, 2, c.now)
	enter(t, g)
	queue(t, g, c, 0, 0, 2)
	if _, err := g.Enter(t.Context()); !fault.Is(err, fault.CodeUnavailable) {
		t.Errorf("a third that would wait got %v, want UNAVAILABLE", err)
	}
}

func TestWhoGivesUpLeavesItsPlaceToOthers(t *testing.T) {
	c := &clock{}
	g := limit.NewGate(1, 10, c.now)
	leave := enter(t, g)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := g.Enter(ctx)
		gone <- err
	}()
	await(t, g, 1)
	cancel()
	if err := <-gone; !fault.Is(err, fault.CodeUnavailable) {
		t.Errorf("who gave up got %v", err)
	}
	leave()
	enter(t, g)()
}

func TestManyAtOnceNeverExceedThePlacesAndLoseNone(t *testing.T) {
	g := limit.NewGate(4, 1000, time.Now)
	var inside, most atomic.Int64
	var callers sync.WaitGroup
	for i := range 200 {
		callers.Go(func() {
			for range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7+1)*100*time.Microsecond)
				leave, err := g.Enter(ctx)
				cancel()
				if err != nil {
					continue
				}
				if n := inside.Add(1); n > most.Load() {
					most.Store(n)
				}
				inside.Add(-1)
				leave()
			}
		})
	}
	callers.Wait()
	if most.Load() > 4 {
		t.Errorf("%d were inside at once, want at most 4", most.Load())
	}
	for range 4 { // every place is free again
		enter(t, g)
	}
}
