package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"git.sentryagent.ai/sentryagent-idp/bench/load"
)

// prefixes are what the names of the servers of each program begin with; those of the
// program that is built here begin with nothing.
func (b *bench) prefixes() []string {
	var all []string
	for _, program := range b.against {
		all = append(all, filepath.Base(program)+" ")
	}
	return append(all, "")
}

// program is what a server of that name is started from.
func (b *bench) program(name string) string {
	for _, program := range b.against {
		if strings.HasPrefix(name, filepath.Base(program)+" ") {
			return program
		}
	}
	if b.profile {
		return filepath.Join(b.dir, "profiled")
	}
	return filepath.Join(b.dir, "agentidp")
}

// contenders starts one or two servers of each program.
func (b *bench) contenders(ctx context.Context, prefixes ...string) error {
	var starts []func() (*target, error)
	for _, prefix := range prefixes {
		starts = append(starts, func() (*target, error) { return b.sqlite(ctx, prefix+onSQLite, small) })
		if b.postgres {
			starts = append(starts, func() (*target, error) { return b.onPostgres(ctx, prefix+inPG, small) })
		}
	}
	for _, start := range starts {
		t, err := start()
		if err != nil {
			return err
		}
		b.targets = append(b.targets, t)
		if err := t.prepare(ctx); err != nil {
			return err
		}
	}
	return nil
}

// compare measures programs in turns, each against the first.
func (b *bench) compare(ctx context.Context, out io.Writer) error {
	if err := b.build(); err != nil {
		return err
	}
	floor, err := b.floor(ctx)
	if err != nil {
		return err
	}
	b.targets = append(b.targets, floor)
	if err := b.contenders(ctx, b.prefixes()...); err != nil {
		return err
	}
	r := newReport(b.options)
	for round := range b.rounds {
		for _, name := range []string{tokens64, introspection64} {
			for _, t := range b.targets {
				kind := t.tokens()
				if name == introspection64 {
					if t == floor {
						continue
					}
					kind = t.introspections()
				}
				s, err := b.once(ctx, measurement{target: t, name: name, plan: load.Plan{Connections: 64, WarmUp: b.each / 4, For: b.each, Mix: []load.Kind{kind}}})
				if err != nil {
					return err
				}
				s.Round = round
				r.Samples = append(r.Samples, s)
			}
		}
		slices.Reverse(b.targets)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) } // Flush gives the error
	p("\tanswers/s\tof the floor's tokens\tCPU µs each\tof the first: rate\tof the first: CPU\tMB\n")
	floors := r.series(theFloor, tokens64, perSecond)
	p("floor\t%.0f\t1\t%.0f\n", median(floors), median(r.series(theFloor, tokens64, cpu))/1000)
	for _, name := range []string{tokens64, introspection64} {
		for _, target := range []string{onSQLite, inPG} {
			first := b.prefixes()[0]
			for _, prefix := range b.prefixes() {
				rates, times := r.series(prefix+target, name, perSecond), r.series(prefix+target, name, cpu)
				if len(rates) == 0 {
					continue
				}
				p("%s%s, %s\t%.0f\t%.2f\t%.0f\t%.2f\t%.2f\t%.0f\n", prefix, target, name, median(rates), median(ratios(rates, floors)), median(times)/1000,
					median(ratios(rates, r.series(first+target, name, perSecond))), median(ratios(times, r.series(first+target, name, cpu))), median(r.series(prefix+target, name, resident)))
			}
		}
	}
	return w.Flush()
}

// profiles writes what the server did while it was asked.
func (b *bench) profiles(ctx context.Context) error {
	if err := b.build(); err != nil {
		return err
	}
	if err := os.MkdirAll(b.out, 0o750); err != nil {
		return err
	}
	if err := b.contenders(ctx, ""); err != nil {
		return err
	}
	for _, t := range b.targets {
		for _, kind := range []load.Kind{t.tokens(), t.introspections()} {
			if err := b.profileOf(ctx, t, kind); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) profileOf(ctx context.Context, t *target, kind load.Kind) error {
	said, err := os.ReadFile(t.said)
	if err != nil {
		return err
	}
	address := regexp.MustCompile(`(?m)^profiles on (\S+)$`).FindSubmatch(said)
	if address == nil {
		return fmt.Errorf("%s does not say where its profiles are", t.name)
	}
	asked := make(chan error, 1)
	go func() {
		r, cpu, err := t.ask(ctx, load.Plan{Connections: 64, For: b.each + 2*time.Second, Mix: []load.Kind{kind}})
		b.say("%s, %s: %.0f a second, %s CPU each", t.name, kind.Name, r.PerSecond, cpu)
		asked <- err
	}()
	for _, profile := range []string{"profile", "allocs", "mutex", "block"} {
		url := fmt.Sprintf("http://%s/debug/pprof/%s", address[1], profile)
		if profile == "profile" {
			url += fmt.Sprintf("?seconds=%d", max(1, int(b.each.Seconds())))
		}
		if err := download(ctx, url, filepath.Join(b.out, strings.Join([]string{t.name, kind.Name, profile + ".pprof"}, "-"))); err != nil {
			return err
		}
	}
	return <-asked
}

func download(ctx context.Context, url, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	f, err := os.Create(path) //nolint:gosec // where we were told to
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, answer.Body); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
