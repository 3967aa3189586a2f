package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"git.sentryagent.ai/sentryagent-idp/bench/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what a run is told.
type options struct {
	quick    bool
	postgres bool
	rounds   int
	each     time.Duration
	large    int
	out      string
	dir      string
	against  []string
	profile  bool
	growth   bool
}

func run(ctx context.Context, args []string) error {
	if len(args) == 1 && args[0] == loadCommand {
		return carryOut(ctx, os.Stdin, os.Stdout)
	}
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "two minutes: fewer rounds, and 100,000 agents instead of 1,000,000")
	flags.BoolVar(&o.postgres, "postgres", true, "measure on PostgreSQL and Redis, too")
	flags.IntVar(&o.rounds, "rounds", 0, "rounds (7, quick 3)")
	flags.DurationVar(&o.each, "each", 0, "how long each measurement of a round takes (4s, quick 1s)")
	flags.IntVar(&o.large, "large", 0, "agents of the large fleet (1000000, quick 100000); 1 leaves it out")
	flags.StringVar(&o.out, "out", "results", "folder for results.json and latency.svg")
	flags.Func("against", "another agentidp, such as one of before a change: tokens and introspections of each, and no table of goals; may be repeated", func(path string) (err error) {
		path, err = filepath.Abs(path)
		o.against = append(o.against, path)
		return err
	})
	flags.BoolVar(&o.profile, "profile", false, "write profiles of tokens and introspections at 64 connections to the folder of -out, and measure nothing")
	flags.BoolVar(&o.growth, "growth", false, "measure what grows with what (agents, credentials, events, connections, overload), and no table of goals")
	flags.StringVar(&o.dir, "dir", "", "folder for the databases, on the disk that is measured (a temporary one)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	o.defaults()
	dir, err := os.MkdirTemp(o.dir, "agentidp-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // PostgreSQL's user passes through
		return err
	}
	o.dir = dir
	b := &bench{options: o, progress: os.Stderr}
	defer b.stop()
	if o.profile {
		return b.profiles(ctx)
	}
	if o.growth {
		return b.grow(ctx, os.Stdout)
	}
	if len(o.against) > 0 {
		return b.compare(ctx, os.Stdout)
	}
	report, err := b.measure(ctx)
	if err != nil {
		return err
	}
	if err := report.print(os.Stdout); err != nil {
		return err
	}
	return report.keep(o.out)
}

func (o *options) defaults() {
	rounds, each, large := 7, 4*time.Second, 1_000_000
	if o.quick {
		rounds, each, large = 3, time.Second, 100_000
	}
	if o.rounds == 0 {
		o.rounds = rounds
	}
	if o.each == 0 {
		o.each = each
	}
	if o.large == 0 {
		o.large = large
	}
}

// loadCommand is what the process that asks is started with.
const loadCommand = "load"

// carryOut reads a plan and writes its result.
func carryOut(ctx context.Context, in io.Reader, out io.Writer) error {
	var p load.Plan
	if err := json.NewDecoder(in).Decode(&p); err != nil {
		return fmt.Errorf("reading the plan: %w", err)
	}
	result, err := load.Run(ctx, p)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// keep writes the results for programs and for eyes.
func (r *report) keep(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "results.json"), append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "latency.svg"), []byte(chart(r.Curves)), 0o600)
}
