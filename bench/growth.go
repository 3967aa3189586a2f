package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"git.sentryagent.ai/sentryagent-idp/bench/fleet"
	"git.sentryagent.ai/sentryagent-idp/bench/load"
	"git.sentryagent.ai/sentryagent-idp/bench/machine"
)

// grow measures on SQLite what each thing costs as it grows, and what an overload does.
func (b *bench) grow(ctx context.Context, out io.Writer) error {
	if err := b.build(); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	g := &growth{bench: b, p: func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }} // Flush gives the error
	for _, part := range []func(context.Context) error{g.agents, g.credentials, g.events, g.connections, g.overload} {
		if err := part(ctx); err != nil {
			return err
		}
		g.p("\n")
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

type growth struct {
	*bench
	p func(format string, args ...any)
}

// on starts the product on a fleet, after the database was made ready for it.
func (g *growth) on(ctx context.Context, name string, size int, statements ...string) (*target, error) {
	dir, err := g.folder(name)
	if err != nil {
		return nil, err
	}
	if err := must(command(dir, environment(dir), filepath.Join(g.dir, "agentidp"), "migrate")); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "agentidp.db")
	if err := fleet.SQLite(ctx, path, size); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(OFF)")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, err
		}
	}
	t, err := g.serve(ctx, name, dir, size)
	if err != nil {
		return nil, err
	}
	g.targets = append(g.targets, t)
	return t, nil
}

// saturated asks for tokens as fast as they come.
func (g *growth) saturated(ctx context.Context, t *target, connections int) error {
	at := load.Plan{Connections: connections, WarmUp: g.each / 4, For: g.each, Mix: []load.Kind{t.tokens()}, MayShed: true}
	result, cpu, err := t.ask(ctx, at)
	if err != nil {
		return err
	}
	resident, err := machine.Resident(t.cmd.Process.Pid)
	if err != nil {
		return err
	}
	g.p("%.0f\t%.1f\t%.1f\t%d\t%d\n", result.PerSecond, float64(result.Latency.P50)/1000, float64(result.Latency.P99)/1000, cpu.Microseconds(), resident>>20)
	return nil
}

const growthColumns = "\ttokens/s\tp50 ms\tp99 ms\tCPU µs each\tMB\n"

func (g *growth) agents(ctx context.Context) error {
	g.p("agents, 64 connections" + growthColumns)
	for size := small; size <= g.large; size *= 10 {
		t, err := g.on(ctx, "agents-"+strconv.Itoa(size), size)
		if err != nil {
			return err
		}
		g.p("%d\t", size)
		if err := g.saturated(ctx, t, 64); err != nil {
			return err
		}
		t.stop()
	}
	return nil
}

func (g *growth) credentials(ctx context.Context) error {
	g.p("credentials per agent, 64 connections" + growthColumns)
	for _, each := range []int{1, 5, 20} {
		t, err := g.on(ctx, "credentials-"+strconv.Itoa(each), small, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
			INSERT INTO credentials (id, agent_id, organization_id, key_id, fingerprint, fingerprint_key, created_at)
			SELECT substr(id, 1, 24) || printf('%%012d', i * 1000000 + c.rowid), agent_id, organization_id, key_id || '-' || i, fingerprint, fingerprint_key, created_at + i
			FROM credentials c CROSS JOIN n WHERE %d > 1`, each, each))
		if err != nil {
			return err
		}
		g.p("%d\t", each)
		if err := g.saturated(ctx, t, 64); err != nil {
			return err
		}
		t.stop()
	}
	return nil
}

// events writes what looks like old tokens into the record, before the server sees it.
func (g *growth) events(ctx context.Context) error {
	g.p("events in the record, 64 connections" + growthColumns)
	most := 1_000_000
	if !g.quick {
		most = 10_000_000
	}
	for count := 10_000; count <= most; count *= 10 {
		t, err := g.on(ctx, "events-"+strconv.Itoa(count), small, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
			INSERT INTO audit_events (sequence, id, agent_id, organization_id, actor_id, time, action, outcome, body)
			SELECT i, printf('00000000-0000-7000-8000-%%012d', i), a.id, a.organization_id, a.id, 1000000000000000 + i, 'token.issued', 'success', randomblob(520)
			FROM n JOIN agents a ON a.rowid = 1 + i %% %d`, count, small), fmt.Sprintf("UPDATE audit_head SET sequence = %d", count))
		if err != nil {
			return err
		}
		if err := g.sequenced(ctx, t, int64(count)); err != nil {
			return err
		}
		g.p("%d\t", count)
		if err := g.saturated(ctx, t, 64); err != nil {
			return err
		}
		t.stop()
	}
	return nil
}

// sequenced waits until the tree has taken in what was written.
func (g *growth) sequenced(ctx context.Context, t *target, count int64) error {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(g.dir, t.name, "agentidp.db")+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	for began := time.Now(); time.Since(began) < patience; time.Sleep(100 * time.Millisecond) {
		var size int64
		if err := db.QueryRowContext(ctx, "SELECT size FROM audit_tree").Scan(&size); err != nil {
			return err
		}
		if size >= count {
			return nil
		}
	}
	return fmt.Errorf("the tree over %d events is not there after %s", count, patience)
}

func (g *growth) connections(ctx context.Context) error {
	t, err := g.on(ctx, "connections", small)
	if err != nil {
		return err
	}
	defer t.stop()
	g.p("connections, each asking without a pause" + growthColumns)
	for _, n := range []int{1, 4, 16, 64, 256, 1024, 4096, 9000} {
		g.p("%d\t", n)
		if err := g.saturated(ctx, t, n); err != nil {
			return err
		}
	}
	return nil
}

// overload asks at fixed rates, also for more than there can be.
func (g *growth) overload(ctx context.Context) error {
	t, err := g.on(ctx, "overload", small)
	if err != nil {
		return err
	}
	defer t.stop()
	plan := load.Plan{Connections: 64, WarmUp: g.each / 4, For: g.each, Mix: []load.Kind{t.tokens()}, MayShed: true}
	most, _, err := t.ask(ctx, plan)
	if err != nil {
		return err
	}
	g.p("asked for, of the %.0f tokens/s at saturation\tanswered/s\tshed/s\tp50 ms\tp99 ms (of the answered; at saturation %.1f)\n", most.PerSecond, float64(most.Latency.P99)/1000)
	plan.Connections = 2048
	for _, times := range []float64{0.5, 1, 2, 3} {
		plan.Rate = times * most.PerSecond
		r, _, err := t.ask(ctx, plan)
		if err != nil {
			return err
		}
		g.p("%g x\t%.0f\t%.0f\t%.1f\t%.1f\n", times, r.PerSecond, float64(r.Shed)/(plan.WarmUp+plan.For).Seconds(), float64(r.Latency.P50)/1000, float64(r.Latency.P99)/1000)
	}
	wrong := t.wrong()
	g.p("\nright secrets, beside a flood of wrong ones\tright/s\twrong/s\tp99 ms of the right\n")
	plan.Connections = 256
	for _, flood := range []float64{0, 10} {
		right := t.tokens()
		plan.Rate, plan.Mix = most.PerSecond/20*(1+flood), []load.Kind{right}
		if wrong.Share = flood; flood > 0 {
			plan.Mix = append(plan.Mix, wrong)
		}
		r, _, err := t.ask(ctx, plan)
		if err != nil {
			return err
		}
		g.p("%g x\t%.0f\t%.0f\t%.1f\n", flood, r.Kinds[right.Name].PerSecond, r.Kinds[wrong.Name].PerSecond, float64(r.Kinds[right.Name].Latency.P99)/1000)
	}
	return nil
}
