package redis_test

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/redis"
	"git.sentryagent.ai/sentryagent-idp/internal/redistest"
)

// scripts gives how often Redis has run the script.
func scripts(t *testing.T, server *redistest.Server) int {
	t.Helper()
	answer, err := server.Do("INFO commandstats")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(answer, "cmdstat_evalsha:calls=")
	count, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(count)
	if err != nil {
		t.Fatalf("no count of scripts in %s", answer)
	}
	return n
}

func TestABusyBucketAsksRedisSeldomAndAQuietOneEveryTime(t *testing.T) {
	server, now := redistest.Start(t), &clock{}
	b := redis.NewBuckets(open(t, server, now), "client", 60_000, never{t})
	const takes = 2000
	for i := range takes {
		if d := b.Take(t.Context(), "busy", 0); !d.Allowed || d.Remaining < 60_000-int64(i)-1 || d.Remaining >= 60_000 {
			t.Fatalf("take %d: %+v", i, d)
		}
	}
	if n := scripts(t, server); n > takes/100 {
		t.Errorf("%d tokens were %d scripts", takes, n)
	}
	before := scripts(t, server)
	for range 20 {
		now.advance(time.Second)
		b.Take(t.Context(), "quiet", 0)
	}
	if n := scripts(t, server) - before; n != 20 {
		t.Errorf("20 tokens of a quiet bucket were %d scripts, so that some were taken ahead for nobody", n)
	}
}

// Three nodes that all take ahead give no more than the limit, and all but a little of
// it can be had.
func TestNodesThatTakeAheadKeepToTheLimitTogether(t *testing.T) {
	const perMinute = 6000
	server := redistest.Start(t)
	var given atomic.Int64
	var callers sync.WaitGroup
	start := time.Now()
	for range 3 {
		node := redis.NewBuckets(open(t, server, &clock{}), "client", perMinute, never{t})
		for range 8 {
			callers.Go(func() {
				for range perMinute / 12 {
					if node.Take(t.Context(), "x", 0).Allowed {
						given.Add(1)
					}
				}
			})
		}
	}
	callers.Wait()
	refilled := int64(time.Since(start)/(time.Minute/perMinute)) + 1
	if n := given.Load(); n > perMinute+refilled || n < perMinute-3*perMinute/100 {
		t.Errorf("%d were given of a bucket of %d and %d that came back", n, perMinute, refilled)
	}
}
