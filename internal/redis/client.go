package redis

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// ErrAway says that Redis did not answer, or is not asked for the moment because
// it did not.
var ErrAway = errors.New("redis is away")

// errClosed says that the client was closed.
var errClosed = errors.New("the client of redis is closed")

const (
	// patience is how long a request waits for Redis.
	patience = 100 * time.Millisecond
	// rest is how long Redis is left alone after it failed, so that an outage costs
	// one request in a second its patience, and the others nothing.
	rest = time.Second
	// probePatience is how long the health check waits.
	probePatience = time.Second
	// settle bounds what nobody waits for any more, such as a connection being made.
	settle = 2 * time.Second
)

// Client is a connection to Redis that is made when it is needed, and made again
// when it was lost. It is safe for concurrent use.
type Client struct {
	option   rueidis.ClientOption
	patience time.Duration
	now      func() time.Time
	// resting is when Redis may be asked again, in nanoseconds since 1970; zero
	// while it answers.
	resting atomic.Int64

	mu     sync.Mutex
	conn   *connection
	closed bool
}

// connection is one attempt to connect. What it came to may be read when done is
// closed.
type connection struct {
	done   chan struct{}
	client rueidis.Client
	err    error
}

// Open makes a client and begins to connect; whether Redis is there does not
// matter to it. It fails with ErrURL. Close must be called in the end.
func Open(url secret.Value, now func() time.Time) (*Client, error) {
	option, err := options(url)
	if err != nil {
		return nil, err
	}
	return open(option, now), nil
}

func open(option rueidis.ClientOption, now func() time.Time) *Client {
	c := &Client{option: option, patience: patience, now: now}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.connect()
	return c
}

// connect begins to connect, with mu held.
func (c *Client) connect() {
	attempt := &connection{done: make(chan struct{})}
	c.conn = attempt
	go func() {
		client, err := rueidis.NewClient(c.option)
		c.mu.Lock()
		defer c.mu.Unlock()
		if err == nil && c.closed {
			err = errClosed
		}
		if err != nil && client != nil {
			client.Close() // a client of one server is given together with the error
		}
		if attempt.client, attempt.err = client, err; err != nil && c.conn == attempt {
			c.conn = nil // who asks next tries anew
		}
		close(attempt.done)
	}()
}

// connected gives the connection, waiting for it until ctx is done.
func (c *Client) connected(ctx context.Context) (rueidis.Client, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, errClosed
	}
	if c.conn == nil {
		c.connect()
	}
	attempt := c.conn
	c.mu.Unlock()
	select {
	case <-attempt.done:
		return attempt.client, attempt.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// leave ends the connection to a server that has become a replica, and may stay one:
// who asks next finds out where the master is now.
func (c *Client) leave(r rueidis.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return
	}
	select {
	case <-c.conn.done:
	default:
		return // another one is being made already
	}
	if c.conn.client == r {
		c.conn = nil
		r.Close()
	}
}

// Close ends the connection.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	if c.conn == nil {
		return
	}
	select {
	case <-c.conn.done:
		c.conn.client.Close()
	default: // the attempt under way sees that it is no longer wanted
	}
}

// Ping asks whether Redis does what it is there for: one that answers but takes no
// writes, or runs no script for this user, is of no more use than one that is away.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.within(ctx, probePatience, func(ctx context.Context, r rueidis.Client) rueidis.RedisResult {
		return rueidis.NewLuaScript(take).Exec(ctx, r, []string{bucketPrefix + "probe"}, []string{"1000000", "1"})
	})
	return err
}

// command is something to ask of Redis.
type command func(context.Context, rueidis.Client) rueidis.RedisResult

// ask asks Redis unless it is resting. It fails with ErrAway.
func (c *Client) ask(ctx context.Context, do command) (rueidis.RedisResult, error) {
	now := c.now()
	again := now.Add(rest).UnixNano()
	if until := c.resting.Load(); until != 0 && (now.UnixNano() < until || !c.resting.CompareAndSwap(until, again)) {
		return rueidis.RedisResult{}, ErrAway // somebody else finds out, or it is too early
	}
	result, err := c.within(ctx, c.patience, do)
	if err != nil {
		c.resting.Store(again)
		return result, errors.Join(ErrAway, err)
	}
	c.resting.Store(0)
	return result, nil
}

// within asks Redis and waits no longer than patience. The command has a
// goroutine of its own, as the driver waits regardless of the context where a
// connection is stuck; and a connection is made also where nobody waits for it any
// more, so that a distant Redis can be reached at all. A caller that goes away
// says nothing of Redis, so its end ends nothing here.
func (c *Client) within(ctx context.Context, patience time.Duration, do command) (rueidis.RedisResult, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settle)
	answer := make(chan rueidis.RedisResult, 1)
	failure := make(chan error, 1)
	go func() {
		defer cancel()
		r, err := c.connected(ctx)
		if err != nil {
			failure <- err
			return
		}
		result := do(ctx, r)
		if err := result.Error(); err != nil {
			if replied, ok := rueidis.IsRedisErr(err); ok && strings.Contains(replied.Error(), "READONLY") {
				c.leave(r)
			}
			failure <- err
			return
		}
		answer <- result
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case result := <-answer:
		return result, nil
	case err := <-failure:
		return rueidis.RedisResult{}, err
	case <-timer.C:
		return rueidis.RedisResult{}, context.DeadlineExceeded
	}
}
