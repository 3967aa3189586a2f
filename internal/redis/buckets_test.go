package redis_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/limit"
	"git.sentryagent.ai/sentryagent-idp/internal/limit/limittest"
	"git.sentryagent.ai/sentryagent-idp/internal/redis"
	"git.sentryagent.ai/sentryagent-idp/internal/redistest"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// open gives a connected client that a busy machine does not confuse.
func open(t *testing.T, server *redistest.Server, c *clock) *redis.Client {
	t.Helper()
	client, err := redis.Open(secret.New(server.URL()), c.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	client.Wait(10 * time.Second)
	return client
}

// never is a fallback that is not wanted.
type never struct{ t *testing.T }

func (n never) Take(context.Context, string, int64) request.Budget {
	n.t.Error("the buckets of this process were asked")
	return request.Budget{}
}

func TestTheSuite(t *testing.T) {
	server := redistest.Start(t)
	limittest.Run(t, func(t *testing.T, perMinute int64) (limittest.Limiter, func(time.Duration)) {
		return redis.NewBuckets(open(t, server, &clock{}), t.Name(), perMinute, never{t}), func(d time.Duration) { <-time.After(d) }
	})
}

func TestNodesShareOneBudget(t *testing.T) {
	server := redistest.Start(t)
	a := redis.NewBuckets(open(t, server, &clock{}), "client", 10, never{t})
	b := redis.NewBuckets(open(t, server, &clock{}), "client", 10, never{t})
	tenants := redis.NewBuckets(open(t, server, &clock{}), "tenant", 10, never{t})
	for i := range 5 {
		if !a.Take(t.Context(), "x", 0).Allowed || !b.Take(t.Context(), "x", 0).Allowed {
			t.Fatalf("refused after %d of 10", 2*i)
		}
	}
	if a.Take(t.Context(), "x", 0).Allowed || b.Take(t.Context(), "x", 0).Allowed {
		t.Error("two nodes gave more than the one budget they share")
	}
	if !tenants.Take(t.Context(), "x", 0).Allowed {
		t.Error("buckets of another name share the budget")
	}
}

func TestBucketsExpireByThemselves(t *testing.T) {
	server := redistest.Start(t)
	b := redis.NewBuckets(open(t, server, &clock{}), "client", 60_000, never{t})
	b.Take(t.Context(), "x", 0)
	server.Until(t, "DBSIZE", ":0")
}

// What somebody else wrote into a bucket does not stop it.
func TestABucketThatCannotBeReadIsFull(t *testing.T) {
	server := redistest.Start(t)
	b := redis.NewBuckets(open(t, server, &clock{}), "client", 10, never{t})
	if _, err := server.Do("SET agentidp:limit:client:x garbage"); err != nil {
		t.Fatal(err)
	}
	if d := b.Take(t.Context(), "x", 0); !d.Allowed || d.Remaining != 9 {
		t.Errorf("a bucket of garbage gave %+v", d)
	}
}

// counting counts how often the buckets of this process decide.
type counting struct {
	*limit.Buckets
	asked int
}

func (c *counting) Take(ctx context.Context, key string, perMinute int64) request.Budget {
	c.asked++
	return c.Buckets.Take(ctx, key, perMinute)
}

func TestWithoutRedisTheNodeDecidesAloneAndIsNotSlowed(t *testing.T) {
	server, now := redistest.Start(t), &clock{}
	now.at.Store(int64(time.Hour))
	local := &counting{Buckets: limit.New(10, 100, now.now)}
	client := open(t, server, now)
	b := redis.NewBuckets(client, "client", 10, local)
	if !b.Take(t.Context(), "x", 0).Allowed || local.asked != 0 {
		t.Fatal("Redis did not decide while it was there")
	}
	server.Kill()
	for range 10 {
		if !b.Take(t.Context(), "x", 0).Allowed {
			t.Fatal("the bucket of this process is not full")
		}
	}
	if b.Take(t.Context(), "x", 0).Allowed || local.asked != 11 {
		t.Errorf("the buckets of this process decided %d of 11, and not within their limit", local.asked)
	}
	server.Run(t)
	if b.Take(t.Context(), "x", 0).Allowed || local.asked != 12 {
		t.Error("Redis was asked again within the second")
	}
	now.advance(time.Second)
	if d := b.Take(t.Context(), "x", 0); !d.Allowed || local.asked != 12 {
		t.Errorf("Redis does not decide again: %+v", d)
	}
}

// A Redis that neither answers nor refuses is given up after the patience of one
// request.
func TestAFrozenRedisIsGivenUp(t *testing.T) {
	server, now := redistest.Start(t), &clock{}
	local := &counting{Buckets: limit.New(10, 100, now.now)}
	client := open(t, server, now)
	b := redis.NewBuckets(client, "client", 10, local)
	b.Take(t.Context(), "x", 0)
	client.Wait(20 * time.Millisecond)
	server.Freeze()
	defer server.Thaw()
	for range 5 {
		b.Take(t.Context(), "x", 0)
	}
	if local.asked != 5 {
		t.Errorf("the buckets of this process decided %d of 5", local.asked)
	}
	if err := client.Ping(t.Context()); err == nil {
		t.Error("a frozen Redis is said to answer")
	}
}

// A Redis that answers and does not do its work is not well (R7).
func TestARedisThatTakesNoWritesOrScriptsIsNotSaidToWork(t *testing.T) {
	for ill, well := range map[string]string{
		"REPLICAOF 127.0.0.1 1":              "REPLICAOF NO ONE",
		"CONFIG SET min-replicas-to-write 1": "CONFIG SET min-replicas-to-write 0",
		"CONFIG SET maxmemory 1":             "CONFIG SET maxmemory 0",
		"ACL SETUSER default -evalsha -eval": "ACL SETUSER default +evalsha +eval",
	} {
		server := redistest.Start(t)
		client := open(t, server, &clock{})
		if err := client.Ping(t.Context()); err != nil {
			t.Errorf("before %s: %v", ill, err)
		}
		if answer, err := server.Do(ill); err != nil || answer != "+OK" {
			t.Fatalf("%s: %s, %v", ill, answer, err)
		}
		if err := client.Ping(t.Context()); err == nil {
			t.Errorf("%s: it is said to work", ill)
		}
		if answer, err := server.Do(well); err != nil || answer != "+OK" {
			t.Fatalf("%s: %s, %v", well, answer, err)
		}
		if err := client.Ping(t.Context()); err != nil {
			t.Errorf("after %s: %v", well, err)
		}
	}
}

func TestOpeningDoesNotNeedRedis(t *testing.T) {
	server := redistest.Start(t)
	server.Kill()
	now := &clock{}
	local := &counting{Buckets: limit.New(10, 100, now.now)}
	client := open(t, server, now)
	b := redis.NewBuckets(client, "client", 10, local)
	if !b.Take(t.Context(), "x", 0).Allowed || local.asked != 1 {
		t.Error("the node does not decide alone")
	}
	if err := client.Ping(t.Context()); err == nil {
		t.Error("Redis is said to answer")
	}
	server.Run(t)
	if err := client.Ping(t.Context()); err != nil {
		t.Errorf("Redis is there: %v", err)
	}
	now.advance(time.Second)
	if !b.Take(t.Context(), "x", 0).Allowed || local.asked != 1 {
		t.Error("Redis does not decide though it is there")
	}
	client.Close()
	client.Close()
	if err := client.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a closed client: %v", err)
	}
}
