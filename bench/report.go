package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"git.sentryagent.ai/sentryagent-idp/bench/load"
)

// report is all that was measured, and what it means.
type report struct {
	At          time.Time
	Cores       int
	Go          string
	Kernel      string
	Rounds      int
	Each        time.Duration
	LargeFleet  int
	Rows        []row
	Curves      []point
	Syncs       []time.Duration
	FloorStarts []time.Duration
	EmptyStarts []time.Duration // beyond the floor's
	LargeStarts []time.Duration // beyond the floor's
	Samples     []sample
}

// point is a latency at a load.
type point struct {
	Target          string
	Asked, Answered float64
	Latency         load.Latency
}

// row is one goal.
type row struct {
	What string
	Goal string
	// Median, Least and Most are of the rounds.
	Median, Least, Most float64
	Unit                string
	Verdict             string
}

func newReport(o options) *report {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // empty where it cannot be read
	return &report{
		At: time.Now().UTC(), Cores: runtime.NumCPU(), Go: runtime.Version(), Kernel: strings.TrimSpace(string(kernel)),
		Rounds: o.rounds, Each: o.each, LargeFleet: o.large,
	}
}

func median[T cmp.Ordered](values []T) T {
	var none T
	if len(values) == 0 {
		return none
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// series gives a figure of each round, in order.
func (r *report) series(target, measure string, figure func(sample) float64) []float64 {
	var all []float64
	for round := range r.Rounds {
		for _, s := range r.Samples {
			if s.Round == round && s.Target == target && s.Measure == measure {
				all = append(all, figure(s))
			}
		}
	}
	return all
}

func perSecond(s sample) float64 { return s.PerSecond }
func cpu(s sample) float64       { return float64(s.CPU) }
func p50(s sample) float64       { return float64(s.Latency.P50) }
func p99(s sample) float64       { return float64(s.Latency.P99) }
func resident(s sample) float64  { return float64(s.Resident) / (1 << 20) }

// ratios divides round by round.
func ratios(over, under []float64) []float64 {
	if len(over) != len(under) {
		return nil
	}
	all := make([]float64, len(over))
	for i := range all {
		all[i] = over[i] / under[i]
	}
	return all
}

// judge makes the rows.
func (r *report) judge() {
	floor64 := r.series(theFloor, tokens64, perSecond)
	large := fmt.Sprintf("%d", r.LargeFleet)
	r.add("tokens/s, SQLite, 64 connections", ">=", 0.65, "of the floor", ratios(r.series(onSQLite, tokens64, perSecond), floor64))
	r.add("tokens/s, SQLite, 256 connections", ">=", 0.75, "of the floor", ratios(r.series(onSQLite, tokens256, perSecond), r.series(theFloor, tokens256, perSecond)))
	r.add("tokens/s, PostgreSQL + Redis, 64 connections", ">=", 0.65, "of the floor", ratios(r.series(inPG, tokens64, perSecond), floor64))
	for _, t := range []struct{ target, label string }{{onSQLite, "SQLite"}, {inPG, "PostgreSQL + Redis"}} {
		r.add("CPU per durable token, "+t.label, "<=", 1.35, "x the floor", ratios(r.series(t.target, tokens64, cpu), r.series(theFloor, tokens64, cpu)))
		r.add("p99 at saturation, "+t.label+", 64 connections", "<=", 1.5, "x the floor", ratios(r.series(t.target, tokens64, p99), r.series(theFloor, tokens64, p99)))
		alone := r.series(theFloor, tokensAlone, p50)
		for i, sync := range r.Syncs {
			alone[i] += 2 * float64(sync.Microseconds())
		}
		r.add("one caller alone, p50, "+t.label, "<=", 1, "x (floor + 2 fdatasync)", ratios(r.series(t.target, tokensAlone, p50), alone))
		r.add("introspection/s, "+t.label, ">=", 1.8, "x the floor's tokens/s", ratios(r.series(t.target, introspection64, perSecond), floor64))
	}
	r.add("tokens/s at "+large+" agents against 1000", ">=", 0.9, "", ratios(r.series(theLarge, tokens64, perSecond), r.series(onSQLite, tokens64, perSecond)))
	r.add("resident memory at 1000 agents", "<=", 64, "MB", highest(r.series(onSQLite, tokens64, resident), r.series(onSQLite, tokens256, resident)))
	r.add("resident memory at "+large+" agents", "<=", 400, "MB", r.series(theLarge, tokens64, resident))
	r.add("start to ready, empty database", "<=", 100, "ms more than the floor", milliseconds(r.EmptyStarts))
	r.add("start to ready, "+large+" agents", "<=", 300, "ms more than the floor", milliseconds(r.LargeStarts))
	r.Rows = append(r.Rows, row{What: "suspending 100,000 agents by selector", Goal: "<= 5", Unit: "s", Verdict: "by make fleet"})
}

func milliseconds(all []time.Duration) []float64 {
	out := make([]float64, len(all))
	for i, d := range all {
		out[i] = float64(d) / float64(time.Millisecond)
	}
	return out
}

// highest joins the figures of several measurements, round by round.
func highest(a, b []float64) []float64 {
	out := slices.Clone(a)
	for i := range min(len(a), len(b)) {
		out[i] = max(a[i], b[i])
	}
	return out
}

func (r *report) add(what, sense string, goal float64, unit string, rounds []float64) {
	one := row{What: what, Goal: fmt.Sprintf("%s %g", sense, goal), Unit: unit, Verdict: "not measured"}
	if len(rounds) > 0 {
		one.Median, one.Least, one.Most = median(rounds), slices.Min(rounds), slices.Max(rounds)
		one.Verdict = "not met"
		if sense == ">=" && one.Median >= goal || sense == "<=" && one.Median <= goal {
			one.Verdict = "met"
		}
	}
	r.Rows = append(r.Rows, one)
}

// print writes the table, and the figures behind it.
func (r *report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) } // Flush gives the error
	p("\n%s, %d cores, %s, Linux %s, %d rounds of %s; median of rounds, least to most\n\n", r.At.Format(time.RFC3339), r.Cores, r.Go, r.Kernel, r.Rounds, r.Each)
	p("what\tgoal\tmeasured\tspread\t\tverdict\n")
	for _, one := range r.Rows {
		if one.Verdict == "not measured" || one.Verdict == "by make fleet" {
			p("%s\t%s\t\t\t%s\t%s\n", one.What, one.Goal, one.Unit, one.Verdict)
			continue
		}
		p("%s\t%s\t%s\t%s to %s\t%s\t%s\n", one.What, one.Goal, short(one.Median), short(one.Least), short(one.Most), one.Unit, one.Verdict)
	}
	p("\nbehind it\tanswers/s\tp50 µs\tp99 µs\tCPU µs each\tMB\n")
	for _, target := range []string{theFloor, onSQLite, inPG, theLarge} {
		for _, measure := range []string{tokens64, tokens256, tokensAlone, introspection64, mixed64} {
			if rates := r.series(target, measure, perSecond); len(rates) > 0 {
				p("%s, %s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\n", target, measure, median(rates), median(r.series(target, measure, p50)),
					median(r.series(target, measure, p99)), median(r.series(target, measure, cpu))/1000, median(r.series(target, measure, resident)))
			}
		}
	}
	p("\nfdatasync of 4 KiB: %s\n", median(r.Syncs))
	return w.Flush()
}

func short(v float64) string {
	if math.Abs(v) >= 10 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// brief tells of a round while the run goes on.
func (r *report) brief(round int) string {
	var said []string
	for _, s := range r.Samples {
		if s.Round == round && s.Measure == tokens64 {
			said = append(said, fmt.Sprintf("%s %.0f tokens/s", s.Target, s.PerSecond))
		}
	}
	return strings.Join(said, ", ")
}
