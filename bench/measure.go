package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"git.sentryagent.ai/sentryagent-idp/bench/load"
	"git.sentryagent.ai/sentryagent-idp/bench/machine"
)

// bench is one run.
type bench struct {
	options
	progress io.Writer
	targets  []*target
	closers  []func()
}

func (b *bench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.progress, format+"\n", args...) // for who watches
}

func (b *bench) stop() {
	for _, t := range b.targets {
		t.stop()
	}
	for _, stop := range slices.Backward(b.closers) {
		stop()
	}
}

// The names of the targets.
const (
	theFloor = "floor"
	onSQLite = "sqlite"
	inPG     = "postgres"
	theLarge = "large"
)

// sample is one measurement.
type sample struct {
	Target, Measure string
	Round           int
	PerSecond       float64
	Latency         load.Latency
	// CPU is the time the server and its database took for each answer.
	CPU      time.Duration
	Kinds    map[string]load.KindResult `json:",omitempty"`
	Resident int64
}

// measurement is something to do to a target in every round.
type measurement struct {
	target *target
	name   string
	plan   load.Plan
}

// The names of the measurements.
const (
	tokens64        = "tokens, 64 connections"
	tokens256       = "tokens, 256 connections"
	tokensAlone     = "tokens, one caller"
	introspection64 = "introspection, 64 connections"
	mixed64         = "mixed, 64 connections"
)

func (b *bench) measure(ctx context.Context) (*report, error) {
	r := newReport(b.options)
	if err := b.build(); err != nil {
		return nil, err
	}
	if err := b.starts(ctx, r); err != nil {
		return nil, err
	}
	if err := b.start(ctx); err != nil {
		return nil, err
	}
	work := b.work()
	for round := range b.rounds {
		sync, err := machine.Sync(b.dir, 200)
		if err != nil {
			return nil, err
		}
		r.Syncs = append(r.Syncs, sync)
		if round%2 == 1 { // what comes first in one round comes last in the next
			slices.Reverse(work)
		}
		for _, m := range work {
			s, err := b.once(ctx, m)
			if err != nil {
				return nil, err
			}
			s.Round = round
			r.Samples = append(r.Samples, s)
		}
		if round%2 == 1 {
			slices.Reverse(work)
		}
		b.say("round %d of %d: fdatasync %s, %s", round+1, b.rounds, sync, r.brief(round))
	}
	if err := b.curves(ctx, r); err != nil {
		return nil, err
	}
	if err := b.restarts(ctx, r); err != nil {
		return nil, err
	}
	r.judge()
	return r, nil
}

// start starts every target.
func (b *bench) start(ctx context.Context) error {
	starts := []func() (*target, error){
		func() (*target, error) { return b.floor(ctx) },
		func() (*target, error) { return b.sqlite(ctx, onSQLite, small) },
	}
	if b.postgres {
		starts = append(starts, func() (*target, error) { return b.onPostgres(ctx, inPG, small) })
	}
	if b.large > 1 {
		starts = append(starts, func() (*target, error) { return b.sqlite(ctx, theLarge, b.large) })
	}
	for _, start := range starts {
		t, err := start()
		if err != nil {
			return err
		}
		b.targets = append(b.targets, t)
		if t.name == theFloor {
			continue
		}
		if err := t.prepare(ctx); err != nil {
			return err
		}
	}
	return nil
}

// work is what is done in each round.
func (b *bench) work() []measurement {
	var all []measurement
	add := func(t *target, name string, connections int, mix ...load.Kind) {
		all = append(all, measurement{target: t, name: name, plan: load.Plan{Connections: connections, WarmUp: b.each / 4, For: b.each, Mix: mix}})
	}
	for _, t := range b.targets {
		add(t, tokens64, 64, t.tokens())
	}
	for _, t := range b.targets {
		if t.name == theLarge {
			continue
		}
		add(t, tokens256, 256, t.tokens())
		add(t, tokensAlone, 1, t.tokens())
		if t.name != theFloor {
			add(t, introspection64, 64, t.introspections())
			add(t, mixed64, 64, t.mix()...)
		}
	}
	return all
}

// settle lets a target end what it does after the last answer, such as the tree over
// what was recorded.
const settle = 300 * time.Millisecond

func (b *bench) once(ctx context.Context, m measurement) (sample, error) {
	result, cpu, err := m.target.ask(ctx, m.plan)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", m.name, err)
	}
	resident, err := machine.Resident(m.target.cmd.Process.Pid)
	if err != nil {
		return sample{}, err
	}
	time.Sleep(settle)
	s := sample{Target: m.target.name, Measure: m.name, PerSecond: result.PerSecond, Latency: result.Latency, CPU: cpu, Resident: resident}
	if len(result.Kinds) > 1 {
		s.Kinds = result.Kinds
	}
	return s, nil
}

// starts measures the start on an empty database, as anybody does it first.
func (b *bench) starts(ctx context.Context, r *report) error {
	for i := range max(3, b.rounds) {
		floor, err := b.floor(ctx)
		if err != nil {
			return err
		}
		floor.stop()
		dir, err := b.folder("empty-" + strconv.Itoa(i))
		if err != nil {
			return err
		}
		environ := []string{"HOME=" + dir, "PORT=0", "DATA_DIR=" + dir}
		t, err := launch(ctx, "agentidp", command(dir, environ, filepath.Join(b.dir, "agentidp"), "serve"), filepath.Join(dir, "log"))
		if err != nil {
			return err
		}
		t.stop()
		r.EmptyStarts = append(r.EmptyStarts, t.ready-floor.ready)
		r.FloorStarts = append(r.FloorStarts, floor.ready)
	}
	return nil
}

// restarts measures the start on the large fleet.
func (b *bench) restarts(ctx context.Context, r *report) error {
	at := slices.IndexFunc(b.targets, func(t *target) bool { return t.name == theLarge })
	if at < 0 {
		return nil
	}
	for range max(3, b.rounds) {
		b.targets[at].stop()
		t, err := b.serve(ctx, theLarge, filepath.Join(b.dir, theLarge), b.large)
		if err != nil {
			return err
		}
		b.targets[at] = t
		r.LargeStarts = append(r.LargeStarts, t.ready-median(r.FloorStarts))
	}
	return nil
}

// curves measures latency at rates that do not wait for the server.
func (b *bench) curves(ctx context.Context, r *report) error {
	shares := []float64{0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1}
	if b.quick {
		shares = []float64{0.2, 0.5, 0.8}
	}
	for _, t := range b.targets {
		if t.name == theLarge {
			continue
		}
		most := median(r.series(t.name, tokens64, func(s sample) float64 { return s.PerSecond }))
		for _, share := range shares {
			result, _, err := t.ask(ctx, load.Plan{Connections: 256, Rate: share * most, WarmUp: b.each / 4, For: b.each, Mix: []load.Kind{t.tokens()}})
			if err != nil {
				return fmt.Errorf("latency at %.0f a second: %w", share*most, err)
			}
			r.Curves = append(r.Curves, point{Target: t.name, Asked: share * most, Answered: result.PerSecond, Latency: result.Latency})
			time.Sleep(settle)
		}
	}
	return nil
}
