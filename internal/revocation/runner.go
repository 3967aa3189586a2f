package revocation

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// The rhythm of a runner, unless its configuration says otherwise.
const (
	defaultPoll     = time.Second
	defaultPatience = 5 * time.Second
	defaultStep     = 1000
	// turn is how long one transaction may take, as tokens wait for it where there is one
	// writer; leastStep is what is written however long it takes.
	turn      = 250 * time.Millisecond
	leastStep = 100
)

// RunnerConfig is what a Runner needs. Zero members but the first get defaults.
type RunnerConfig struct {
	Store  Store
	Logger *slog.Logger
	Now    func() time.Time
	// Poll is how often a node looks for what another one left.
	Poll time.Duration
	// Patience is how long a job may stand still before another node goes on with it.
	Patience time.Duration
	// Step is how many agents one transaction writes at most; fewer where that takes long.
	Step int
}

// Runner writes what jobs have decided, the oldest first. Of all nodes one writes at a
// time; were it two, each agent would still be written once.
type Runner struct {
	cfg  RunnerConfig
	name string
	wake chan struct{}

	// seen is the job as it stood when it was last seen to move, at the time since.
	seen  Job
	since time.Time
}

// NewRunner makes a runner.
func NewRunner(cfg RunnerConfig) *Runner {
	if cfg.Poll == 0 {
		cfg.Poll = defaultPoll
	}
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.Step == 0 {
		cfg.Step = defaultStep
	}
	return &Runner{cfg: cfg, name: uuid.NewString(), wake: make(chan struct{}, 1)}
}

// Name is the node's, as holder of jobs.
func (r *Runner) Name() string { return r.name }

// Wake tells the runner that there is something to write. It never blocks.
func (r *Runner) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx is done. What is not written by then, another node writes, or this
// one when it starts again.
func (r *Runner) Run(ctx context.Context) {
	ticker := time.NewTicker(r.cfg.Poll)
	defer ticker.Stop()
	for {
		if err := r.Work(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Logger.WarnContext(ctx, "writing a revocation failed", "error", err)
		}
		select {
		case <-ticker.C:
		case <-r.wake:
		case <-ctx.Done():
			return
		}
	}
}

// Work writes until nothing is left that this node may write.
func (r *Runner) Work(ctx context.Context) error {
	for ctx.Err() == nil {
		j, found, err := r.cfg.Store.OldestRevocation(ctx)
		if err != nil || !found || !r.due(j) {
			return err
		}
		if j.Holder != r.name {
			if j, err = r.cfg.Store.SeizeRevocation(ctx, j, r.name); err != nil {
				return lost(err)
			}
			r.cfg.Logger.InfoContext(ctx, "this node goes on with a revocation", "revocation", j.ID.String(), "written", j.Written, "changed", j.Changed)
		}
		for step := r.cfg.Step; !j.Completed() && ctx.Err() == nil; {
			began := time.Now()
			if j, err = r.cfg.Store.AdvanceRevocation(ctx, j, step, r.cfg.Now().UTC().Truncate(time.Microsecond)); err != nil {
				return lost(err)
			}
			step = r.next(step, time.Since(began))
		}
	}
	return nil
}

// next is how many agents the next transaction writes, after one of step took so long.
func (r *Runner) next(step int, took time.Duration) int {
	switch {
	case took > turn:
		step /= 2
	case took < turn/4:
		step *= 2
	}
	return min(max(step, leastStep), r.cfg.Step)
}

// lost makes nothing of what another node does.
func lost(err error) error {
	if errors.Is(err, ErrLost) {
		return nil
	}
	return err
}

// due reports whether this node is to write the job: it is its own, or whoever has it
// does nothing.
func (r *Runner) due(j Job) bool {
	if j.Holder == r.name {
		return true
	}
	if j.ID != r.seen.ID || j.Term != r.seen.Term || j.Written != r.seen.Written {
		r.seen, r.since = j, time.Now()
	}
	return time.Since(r.since) > r.cfg.Patience
}
