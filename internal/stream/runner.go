package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Source gives the record, as far as a signed tree covers it.
type Source interface {
	// Events gives up to limit events after the sequence, in order. Events whose
	// body was dropped are not among them. It may be asked the same again.
	Events(ctx context.Context, after int64, limit int) ([]export.Entry, error)
	// Newest gives the sequence of the last event that Events gives, 0 where there
	// is none.
	Newest(ctx context.Context) (int64, error)
}

// Positions keeps how far each stream has been delivered.
type Positions interface {
	// Position gives the sequence of the last event that was delivered, 0 where none
	// was.
	Position(ctx context.Context, name string) (int64, error)
	// Advance moves it from one sequence to a later one, and fails with CONFLICT where
	// it stands elsewhere.
	Advance(ctx context.Context, name string, from, to int64) error
}

// Sink takes batches of events.
type Sink interface {
	// Deliver returns nil when the other side has all of the batch, which is never
	// empty. After a failure it may have some or all of it; it will be delivered
	// again.
	Deliver(ctx context.Context, batch []export.Entry) error
	// Close lets go of what the sink holds; Deliver may still be called.
	Close() error
}

// RunnerConfig is what a Runner needs. Batch and the members after it have defaults.
type RunnerConfig struct {
	// Name is that of the stream, by which its position is kept.
	Name      string
	Sink      Sink
	Source    Source
	Positions Positions
	// Leader says whether this node is the one to deliver now. That two believe it
	// for a while costs duplicates and nothing else.
	Leader func() bool
	Now    func() time.Time
	Logger *slog.Logger

	// Batch and Bytes bound one batch: how many events, and their bytes, but for one
	// event that is larger alone.
	Batch, Bytes int
	// Poll is the pause where there is nothing more to deliver.
	Poll time.Duration
	// LeastPause and MostPause bound the pause after a failure.
	LeastPause, MostPause time.Duration
	// Wait waits for a time or until ctx is done.
	Wait func(ctx context.Context, d time.Duration)
}

// Runner delivers the record to one sink. It is run by one goroutine; Status may be
// asked by any.
type Runner struct {
	cfg RunnerConfig

	// position is where the stream stands, where known says so. batch is what comes
	// next, kept the same until it was delivered and that was noted.
	position  int64
	known     bool
	batch     []export.Entry
	delivered bool
	failures  int

	mu     sync.Mutex
	status Status
}

// Status is how a stream stands.
type Status struct {
	Name string
	// Leading says whether this node delivers; the rest means something only then.
	Leading bool
	// Position is the last event that was delivered, Newest the last there is.
	Position, Newest int64
	// FailingSince is when it began to fail, zero while it works; Err says why.
	FailingSince time.Time
	Err          error
}

// Behind is how many events are still to be delivered, at most.
func (s Status) Behind() int64 { return max(0, s.Newest-s.Position) }

// errCut says that events are gone which the stream has delivered.
var errCut = errors.New("the record is shorter than it was")

// NewRunner makes a runner; zero members of cfg get defaults.
func NewRunner(cfg RunnerConfig) *Runner {
	defaultTo(&cfg.Batch, 500)
	defaultTo(&cfg.Bytes, 1<<20)
	defaultTo(&cfg.Poll, time.Second)
	defaultTo(&cfg.LeastPause, time.Second)
	defaultTo(&cfg.MostPause, 5*time.Minute)
	if cfg.Wait == nil {
		cfg.Wait = wait
	}
	return &Runner{cfg: cfg, status: Status{Name: cfg.Name}}
}

func defaultTo[T int | time.Duration](member *T, value T) {
	if *member == 0 {
		*member = value
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Run delivers until ctx is done. What is under way then is given up, and delivered
// again by the next run.
func (r *Runner) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if pause := r.turn(ctx); pause > 0 {
			r.cfg.Wait(ctx, pause)
		}
	}
	if err := r.cfg.Sink.Close(); err != nil {
		r.cfg.Logger.WarnContext(ctx, "closing a stream of the record failed", "stream", r.cfg.Name, "error", err)
	}
}

// Status tells how the stream stands.
func (r *Runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// turn does one step and says how long to wait before the next.
func (r *Runner) turn(ctx context.Context) time.Duration {
	if !r.cfg.Leader() {
		r.forget()
		r.failures = 0
		r.note(func(s *Status) { *s = Status{Name: s.Name} })
		return r.cfg.Poll
	}
	more, err := r.step(ctx)
	switch {
	case ctx.Err() != nil: // a failure now says nothing
		return 0
	case err != nil:
		return r.failed(ctx, err)
	}
	r.worked(ctx)
	if more {
		return 0
	}
	return r.cfg.Poll
}

// step delivers one batch, if there is one, and reports whether more may wait.
func (r *Runner) step(ctx context.Context) (more bool, err error) {
	if !r.known {
		if r.position, err = r.cfg.Positions.Position(ctx, r.cfg.Name); err != nil {
			return false, fmt.Errorf("reading the position: %w", err)
		}
		r.known = true
	}
	newest, err := r.cfg.Source.Newest(ctx)
	if err != nil {
		return false, fmt.Errorf("reading the record: %w", err)
	}
	r.note(func(s *Status) { s.Leading, s.Position, s.Newest = true, r.position, newest })
	if newest < r.position {
		return false, fmt.Errorf("%w: it ends at %d, and %d was delivered", errCut, newest, r.position)
	}
	if len(r.batch) == 0 {
		if newest == r.position {
			return false, nil
		}
		if err := r.read(ctx); err != nil || len(r.batch) == 0 {
			return false, err
		}
	}
	if !r.delivered {
		if err := r.cfg.Sink.Deliver(ctx, r.batch); err != nil {
			return false, err
		}
		r.delivered = true
	}
	return r.advance(ctx, newest)
}

// read reads the next batch.
func (r *Runner) read(ctx context.Context) error {
	entries, err := r.cfg.Source.Events(ctx, r.position, r.cfg.Batch)
	if err != nil {
		return fmt.Errorf("reading the record: %w", err)
	}
	size, last := 0, r.position
	for i, e := range entries {
		if e.Sequence <= last {
			return fmt.Errorf("reading the record: event %d follows %d", e.Sequence, last)
		}
		last = e.Sequence
		if size += len(e.Body); size > r.cfg.Bytes && i > 0 {
			r.batch = entries[:i]
			return nil
		}
	}
	r.batch = entries
	return nil
}

// advance notes that the batch was delivered, and reports whether more may wait: a small
// batch says nothing, as what was dropped is not in it. It is done also where ctx ends
// meanwhile, as the next run would deliver the batch again.
func (r *Runner) advance(ctx context.Context, newest int64) (more bool, err error) {
	last := r.batch[len(r.batch)-1].Sequence
	err = r.cfg.Positions.Advance(context.WithoutCancel(ctx), r.cfg.Name, r.position, last)
	if fault.Is(err, fault.CodeConflict) {
		// Another node delivers, too: go on from where it is.
		r.forget()
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("noting the position: %w", err)
	}
	r.position, r.batch, r.delivered = last, nil, false
	r.note(func(s *Status) { s.Position = last })
	return last < newest, nil
}

func (r *Runner) forget() { r.known, r.batch, r.delivered = false, nil, false }

// failed notes a failure, logs the first of a row, and says how long to wait.
func (r *Runner) failed(ctx context.Context, err error) time.Duration {
	r.failures++
	r.note(func(s *Status) {
		s.Leading, s.Err = true, err
		if r.failures == 1 {
			s.FailingSince = r.cfg.Now()
		}
	})
	if r.failures == 1 {
		r.cfg.Logger.WarnContext(ctx, "delivering the record fails; it is tried again", "stream", r.cfg.Name, "position", r.position, "error", err)
	}
	pause := r.cfg.MostPause
	if doublings := r.failures - 1; doublings < 16 {
		pause = min(pause, r.cfg.LeastPause<<doublings)
	}
	pause -= rand.N(pause/2 + 1) //nolint:gosec // it spreads, it hides nothing
	if refused, ok := errors.AsType[*Refused](err); ok {
		pause = max(pause, refused.RetryAfter)
	}
	return pause
}

// worked ends a row of failures.
func (r *Runner) worked(ctx context.Context) {
	if r.failures == 0 {
		return
	}
	now := r.Status()
	r.failures = 0
	r.note(func(s *Status) { s.FailingSince, s.Err = time.Time{}, nil })
	r.cfg.Logger.InfoContext(ctx, "delivering the record works again", "stream", r.cfg.Name, "behind", now.Behind(), "failedFor", r.cfg.Now().Sub(now.FailingSince))
}

func (r *Runner) note(change func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}
