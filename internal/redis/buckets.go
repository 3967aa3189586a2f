package redis

import (
	"context"
	_ "embed"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"git.sentryagent.ai/sentryagent-idp/internal/request"
)

//go:embed take.lua
var take string

// bucketPrefix is what the keys of buckets begin with.
const bucketPrefix = "agentidp:limit:"

// Limiter is a set of token buckets of one process.
type Limiter interface {
	Take(ctx context.Context, key string, perMinute int64) request.Budget
}

// Buckets is a set of token buckets that all nodes share, one per key, each
// refilled evenly over a minute by Redis' own clock. Where Redis is away, those of
// this process decide.
type Buckets struct {
	client    *Client
	script    *rueidis.Lua
	prefix    string
	perMinute int64
	local     Limiter
	ahead     *leases
}

// NewBuckets makes buckets of perMinute tokens. The name tells them from the other
// buckets in Redis; local decides where Redis is away.
func NewBuckets(client *Client, name string, perMinute int64, local Limiter) *Buckets {
	return &Buckets{client: client, script: rueidis.NewLuaScript(take), prefix: bucketPrefix + name + ":", perMinute: perMinute, local: local, ahead: newLeases(client.now)}
}

// Take takes one token from the bucket of the key, whose size is perMinute, or
// the common one where that is zero.
func (b *Buckets) Take(ctx context.Context, key string, perMinute int64) request.Budget {
	if perMinute == 0 {
		perMinute = b.perMinute
	}
	each := time.Minute / time.Duration(perMinute)
	lacks, wanted := b.ahead.take(key, each, perMinute)
	if wanted == 0 {
		return allowed(lacks, each, perMinute)
	}
	result, err := b.client.ask(ctx, func(ctx context.Context, r rueidis.Client) rueidis.RedisResult {
		return b.script.Exec(ctx, r, []string{b.prefix + key}, []string{strconv.FormatInt(int64(each), 10), strconv.FormatInt(wanted, 10)})
	})
	var answer []int64
	if err == nil {
		answer, err = result.AsIntSlice()
	}
	if err != nil || len(answer) != 2 {
		b.ahead.keep(key, wanted, 0, 0)
		return b.local.Take(ctx, key, perMinute)
	}
	taken, after := answer[0], time.Duration(answer[1])
	b.ahead.keep(key, wanted, taken-1, after)
	if taken == 0 {
		return request.Budget{Limit: perMinute, RetryAfter: after - time.Minute, Reset: after - each}
	}
	return allowed(after-time.Duration(taken-1)*each, each, perMinute)
}

func allowed(lacks, each time.Duration, perMinute int64) request.Budget {
	return request.Budget{Allowed: true, Limit: perMinute, Remaining: max(0, int64((time.Minute-lacks)/each)), Reset: lacks}
}
