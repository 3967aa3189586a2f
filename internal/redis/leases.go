package redis

import (
	"sync"
	"time"
)

// A busy bucket is not asked for every token: a node takes some ahead, at most a
// hundredth of what a minute brings, and gives them away within half a second or not at
// all. So no more than the limit is ever given, all of it but that hundredth per node
// can be had, and buckets of fewer than two hundred a minute are exact.
const (
	leaseShare = 100
	leaseTime  = 500 * time.Millisecond
	maxLeases  = 50_000
)

// leases is what a node has taken ahead from the buckets of one name.
type leases struct {
	now func() time.Time
	mu  sync.Mutex
	of  map[string]*lease
}

type lease struct {
	// left of those that were taken ahead, which are good until then.
	left  int64
	until time.Time
	// lacks is what the bucket lacked when they were taken.
	lacks time.Duration
	// size is how many were asked for the last time.
	size int64
	// asking says that somebody is on the way for more.
	asking bool
}

func newLeases(now func() time.Time) *leases { return &leases{now: now, of: map[string]*lease{}} }

// take takes one of those taken ahead and gives what the bucket lacks, or says how many
// to ask for: twice as many as the last time where those went in time, else one. Who is
// told to ask for more than one must call keep.
func (l *leases) take(key string, each time.Duration, perMinute int64) (lacks time.Duration, wanted int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, one := l.now(), l.of[key]
	good := one != nil && now.Before(one.until)
	if good && one.left > 0 {
		one.left--
		return max(0, one.lacks-time.Duration(one.left)*each), 0
	}
	most := perMinute / leaseShare
	if most < 2 || one != nil && one.asking {
		return 0, 1
	}
	if one == nil {
		l.makeRoom(now)
		one = &lease{}
		l.of[key] = one
	}
	wanted = 1
	if good {
		wanted = min(2*one.size, most)
	}
	one.asking = wanted > 1
	one.size, one.left, one.until = wanted, 0, now.Add(leaseTime)
	return 0, wanted
}

// keep takes in what came of asking for as many.
func (l *leases) keep(key string, wanted, left int64, lacks time.Duration) {
	if wanted <= 1 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := l.of[key]; one != nil {
		one.asking = false
		one.left, one.lacks = max(0, left), lacks
		if left <= 0 {
			one.until = time.Time{} // the bucket is nearly empty: one by one
		}
	}
}

// makeRoom forgets those whose time is over, and all where that is not enough: what was
// taken ahead comes back to its bucket by itself.
func (l *leases) makeRoom(now time.Time) {
	if len(l.of) < maxLeases {
		return
	}
	for key, one := range l.of {
		if !one.asking && !now.Before(one.until) {
			delete(l.of, key)
		}
	}
	if len(l.of) >= maxLeases {
		clear(l.of)
	}
}
