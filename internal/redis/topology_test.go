package redis_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/limit"
	"git.sentryagent.ai/sentryagent-idp/internal/redis"
	"git.sentryagent.ai/sentryagent-idp/internal/redistest"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// at gives a patient client of the URL.
func at(t *testing.T, url string, c *clock) *redis.Client {
	t.Helper()
	client, err := redis.Open(secret.New(url), c.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	client.Wait(10 * time.Second)
	return client
}

// shared takes the ten of each key's budget through two nodes in turn, and one more.
func shared(t *testing.T, a, b *redis.Client, keys int) {
	t.Helper()
	first, second := redis.NewBuckets(a, t.Name(), 10, never{t}), redis.NewBuckets(b, t.Name(), 10, never{t})
	for key := range keys {
		name := fmt.Sprint(key)
		for range 5 {
			if !first.Take(t.Context(), name, 0).Allowed || !second.Take(t.Context(), name, 0).Allowed {
				t.Fatalf("key %s: refused within the ten", name)
			}
		}
		if first.Take(t.Context(), name, 0).Allowed && second.Take(t.Context(), name, 0).Allowed {
			t.Errorf("key %s: two nodes gave more than the one budget they share", name)
		}
	}
}

// told lets one node tell of a change until another has heard of it: news may be
// lost, and is then.
func told(t *testing.T, teller, listener *redis.Client) {
	t.Helper()
	heard := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_ = listener.Listen(ctx, func(keyID string) {
				select {
				case heard <- keyID:
				default:
				}
			})
		}
	}()
	defer func() {
		cancel()
		<-ended
	}()
	s := &store{held: []credential.Credential{{KeyID: "first0000000"}}}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); ; {
		if err := redis.NewCredentials(s, teller).ChangeCredentials(t.Context(), uuid.Nil, uuid.Nil, func(credential.Holder, []credential.Credential) ([]credential.Credential, audit.Event, error) {
			return s.held, audit.Event{}, nil
		}); err != nil {
			t.Fatal(err)
		}
		select {
		case keyID := <-heard:
			if keyID != "first0000000" {
				t.Errorf("heard of %q", keyID)
			}
			return
		case <-tick.C:
		case <-late:
			t.Fatal("no node hears of a change")
		}
	}
}

func TestRedisIsReachedByTLSAndOnlyWhereItsCertificateIsGood(t *testing.T) {
	server, url, ca := redistest.StartTLS(t)
	trusting := func(url string) *redis.Client {
		client, err := redis.OpenTrusting(secret.New(url), (&clock{}).now, ca)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		client.Wait(10 * time.Second)
		return client
	}
	a, b := trusting(url), trusting(url)
	shared(t, a, b, 1)
	told(t, a, b)
	if err := at(t, url, &clock{}).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
	if err := trusting(strings.Replace(url, "localhost", "127.0.0.1", 1)).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of localhost for 127.0.0.1: %v", err)
	}
	if err := trusting(strings.Replace(server.URL(), "redis:", "rediss:", 1)).Ping(t.Context()); err == nil {
		t.Error("a server that does not speak TLS is spoken to")
	}
}

func TestTheNodesOfAClusterShareTheBudgetsOfAllSlots(t *testing.T) {
	cluster := redistest.StartCluster(t)
	one, all := "redis+cluster://"+cluster[0].Address(), "redis+cluster://"+redistest.Addresses(cluster...)
	// A node that knows one server of the cluster finds the others.
	shared(t, at(t, one, &clock{}), at(t, all, &clock{}), 30)
	for _, s := range cluster {
		if answer, err := s.Do("DBSIZE"); err != nil || answer == ":0" {
			t.Errorf("a server holds %s budgets (%v), so not all slots were used", answer, err)
		}
	}
	told(t, at(t, one, &clock{}), at(t, all, &clock{}))
}

// What is in the slots of a server that died is decided alone, and the service goes on.
func TestAServerOfAClusterMayDie(t *testing.T) {
	cluster, now := redistest.StartCluster(t), &clock{}
	client := at(t, "redis+cluster://"+redistest.Addresses(cluster...), now)
	shared(t, client, client, 1)
	cluster[2].Kill()
	local := &counting{Buckets: limit.New(10, 100, now.now)}
	b := redis.NewBuckets(client, "after", 10, local)
	for key := range 30 {
		now.advance(2 * time.Second)
		if !b.Take(t.Context(), fmt.Sprint(key), 0).Allowed {
			t.Errorf("key %d is refused", key)
		}
	}
	if local.asked == 0 {
		t.Error("the dead server's slots were decided by nobody known")
	}
}

func TestTheMasterThatSentinelsChooseIsFollowed(t *testing.T) {
	master, now := redistest.Start(t), &clock{}
	replica := redistest.StartReplica(t, master)
	sentinel := redistest.StartSentinel(t, master, "budgets")
	sentinel.UntilHas(t, "SENTINEL MASTER budgets", "num-slaves $1 1")
	url := "redis+sentinel://" + sentinel.Address() + "/budgets"
	a, b := at(t, url, now), at(t, url, now)
	shared(t, a, b, 1)
	told(t, a, b)
	master.Kill()
	replica.UntilHas(t, "INFO replication", "role:master")

	// Away is away until the news of the new master has come.
	local := &counting{Buckets: limit.New(10, 100, now.now)}
	after := redis.NewBuckets(a, "after", 10, local)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(30 * time.Second); ; {
		now.advance(2 * time.Second)
		asked := local.asked
		after.Take(t.Context(), "x", 0)
		if asked == local.asked {
			break
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the new master is not found")
		}
	}
	if answer, err := replica.Do("EXISTS agentidp:limit:after:x"); err != nil || answer != ":1" {
		t.Errorf("the budget is not kept by the new master: %s, %v", answer, err)
	}
	told(t, a, b)
}

// What a name stands for may change without a connection being lost: the server that
// was the master answers on, as a replica.
func TestAMasterThatBecameAReplicaIsLeft(t *testing.T) {
	old, now := redistest.Start(t), &clock{}
	next := redistest.Start(t)
	var target atomic.Value
	target.Store(old.Address())
	client := at(t, "redis://"+forward(t, &target), now)
	local := &counting{Buckets: limit.New(10, 100, now.now)}
	b := redis.NewBuckets(client, "client", 10, local)
	if !b.Take(t.Context(), "x", 0).Allowed || local.asked != 0 {
		t.Fatal("Redis did not decide while it was there")
	}
	if answer, err := old.Do("REPLICAOF " + strings.Replace(next.Address(), ":", " ", 1)); err != nil || answer != "+OK" {
		t.Fatalf("%q, %v", answer, err)
	}
	target.Store(next.Address())
	b.Take(t.Context(), "x", 0)
	if local.asked != 1 {
		t.Error("a replica decided")
	}
	now.advance(2 * time.Second)
	b.Take(t.Context(), "y", 0)
	if answer, err := next.Do("EXISTS agentidp:limit:client:y"); err != nil || answer != ":1" || local.asked != 1 {
		t.Errorf("the new master does not decide: %s, %v", answer, err)
	}
	told(t, client, client)
}

// forward listens on an address that stands for the target, for each connection anew.
func forward(t *testing.T, target *atomic.Value) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target.Load().(string))
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					_, _ = io.Copy(way[0], way[1])
					_, _ = way[0].Close(), way[1].Close()
				}()
			}
		}
	}()
	return l.Addr().String()
}
