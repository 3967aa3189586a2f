package limit

import (
	"context"
	"errors"
	"sync"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// How a Gate tells a burst, which is waited out, from an overload, which is not.
const (
	// tolerable is how long a request may wait in its turn.
	tolerable = 100 * time.Millisecond
	// persistent is for how long waits must have been longer than that.
	persistent = 500 * time.Millisecond
	// hopeless is how long a request waits before it is refused: a refusal takes processor
	// time from those who are served, and who waits does not ask again meanwhile.
	hopeless = time.Second
)

// errBusy is the cause of a refusal, for the log.
var errBusy = errors.New("more is asked than can be answered")

// Gate lets so many requests be worked on at a time. The others wait their turn, first
// come first served, and a burst is served to its end. Where waits stay long the server
// has more to do than it can, and then the newest go first, and who has waited too long is
// refused: to be late for everybody would help nobody. It is safe for concurrent use.
type Gate struct {
	now        func() time.Time
	maxWaiting int

	mu      sync.Mutex
	free    int
	waiting []*waiter // the oldest first
	// calm is when a wait was last tolerable; overloaded says that it is long ago, and
	// that somebody has been waiting ever since.
	calm       time.Time
	overloaded bool
}

type waiter struct {
	since time.Time
	turn  chan bool // true: go; false: refused
}

// NewGate makes a gate for places requests, before which at most waiting wait.
func NewGate(places, waiting int, now func() time.Time) *Gate {
	return &Gate{now: now, maxWaiting: waiting, free: places, calm: now()}
}

// Enter waits until it is the caller's turn; leave must then be called once. It fails with
// UNAVAILABLE where there is too much to do, or ctx ends first.
func (g *Gate) Enter(ctx context.Context) (leave func(), err error) {
	g.mu.Lock()
	now := g.now()
	if g.free > 0 {
		g.free--
		g.calm, g.overloaded = now, false
		g.mu.Unlock()
		return g.leave, nil
	}
	if len(g.waiting) >= g.maxWaiting {
		g.mu.Unlock()
		return nil, busy()
	}
	w := &waiter{since: now, turn: make(chan bool, 1)}
	g.waiting = append(g.waiting, w)
	g.mu.Unlock()
	select {
	case admitted := <-w.turn:
		if !admitted {
			return nil, busy()
		}
		return g.leave, nil
	case <-ctx.Done():
		g.abandon(w)
		return nil, fault.UnavailableBecause(context.Cause(ctx))
	}
}

func busy() error { return fault.UnavailableBecause(errBusy) }

// leave gives the place to who is next.
func (g *Gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.free++
		return
	}
	now := g.now()
	if now.Sub(g.waiting[0].since) <= tolerable {
		g.calm = now
	}
	g.overloaded = g.overloaded || now.Sub(g.calm) >= persistent
	if !g.overloaded {
		g.next(0)
		return
	}
	late := 0
	for late < len(g.waiting)-1 && now.Sub(g.waiting[late].since) > hopeless {
		g.waiting[late].turn <- false
		late++
	}
	g.waiting = g.waiting[late:]
	g.next(len(g.waiting) - 1)
}

// next admits one of those who wait.
func (g *Gate) next(i int) {
	w := g.waiting[i]
	g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
	w.turn <- true
}

// abandon takes back a wait; a turn that came meanwhile goes to the next.
func (g *Gate) abandon(w *waiter) {
	g.mu.Lock()
	for i, one := range g.waiting {
		if one == w {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			g.mu.Unlock()
			return
		}
	}
	g.mu.Unlock()
	if <-w.turn {
		g.leave()
	}
}
