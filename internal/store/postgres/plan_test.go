package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
	"git.sentryagent.ai/sentryagent-idp/internal/store/postgres"
)

// statement is what the store sent.
type statement struct {
	query string
	args  []any
	once  bool // it is planned for these arguments alone
}

// listener keeps every statement that passes.
type listener struct {
	mu    sync.Mutex
	heard []statement
}

// TraceQueryStart keeps the statement.
func (l *listener) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := statement{query: d.SQL}
	for _, arg := range d.Args {
		switch mode := arg.(type) {
		case pgx.QueryExecMode:
			st.once = st.once || mode == pgx.QueryExecModeCacheDescribe
		case pgx.QueryResultFormatsByOID: // the driver's, not the store's
		default:
			st.args = append(st.args, arg)
		}
	}
	l.heard = append(l.heard, st)
	return ctx
}

// TraceQueryEnd has nothing to keep.
func (l *listener) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (l *listener) take() []statement {
	l.mu.Lock()
	defer l.mu.Unlock()
	heard := l.heard
	l.heard = nil
	return heard
}

// step is a step of a plan that was carried out.
type step struct {
	Kind     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Rows     float64 `json:"Actual Rows"`
	Loops    float64 `json:"Actual Loops"`
	Removed  float64 `json:"Rows Removed by Filter"`
	Plans    []step  `json:"Plans"`
}

// all gives the step and what is below it.
func (s step) all() []step {
	steps := []step{s}
	for _, below := range s.Plans {
		steps = append(steps, below.all()...)
	}
	return steps
}

func (s step) String() string {
	name := s.Kind
	if s.Relation != "" {
		name += " on " + s.Relation
	}
	if s.Index != "" {
		name += " by " + s.Index
	}
	return name
}

// run is how a statement was carried out.
type run struct {
	statement
	what            string
	plan            step
	planning, spent time.Duration
	read            float64 // rows
}

func milliseconds(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }

// String gives the condition and the first steps of the plan.
func (r run) String() string {
	steps := []string{}
	for _, one := range r.plan.all() {
		steps = append(steps, one.String())
	}
	_, condition, _ := strings.Cut(r.query, " WHERE ")
	args := fmt.Sprint(r.args)
	return fmt.Sprintf("%s: %s %s: %s", r.what, condition, args[:min(200, len(args))], strings.Join(steps[:min(6, len(steps))], "; "))
}

// explain carries the statement out, undoes it, and gives how it went.
func explain(t *testing.T, conn *pgx.Conn, what, command string, s statement, mode ...any) run {
	t.Helper()
	analyze := "ANALYZE, "
	if strings.Contains(s.query, "INSERT INTO") || strings.Contains(s.query, "audit_drop(") {
		analyze = "" // the rows are there already, or are gone
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	var text string
	if err := tx.QueryRow(t.Context(), "EXPLAIN ("+analyze+"FORMAT JSON) "+command, append(mode, s.args...)...).Scan(&text); err != nil {
		t.Fatalf("%s: %s: %v", what, s.query, err)
	}
	var plans []struct {
		Plan     step
		Planning float64 `json:"Planning Time"`
		Spent    float64 `json:"Execution Time"`
	}
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		t.Fatal(err)
	}
	r := run{statement: s, what: what, plan: plans[0].Plan, planning: milliseconds(plans[0].Planning), spent: milliseconds(plans[0].Spent)}
	for _, one := range r.plan.all() {
		if one.Relation != "" || one.Index != "" {
			r.read += (one.Rows + one.Removed) * one.Loops
		}
	}
	return r
}

// explainForced explains the one plan for all values that a statement gets that is
// sent often.
func explainForced(t *testing.T, conn *pgx.Conn, what string, s statement) run {
	t.Helper()
	if err := conn.Deallocate(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	prepared, err := conn.Prepare(t.Context(), "p", s.query)
	if err != nil {
		t.Fatal(err)
	}
	command := "EXECUTE p"
	for i := range prepared.ParamOIDs {
		command += fmt.Sprintf("%c$%d", "(,"[min(i, 1)], i+1)
	}
	if len(prepared.ParamOIDs) > 0 {
		command += ")"
	}
	return explain(t, conn, what+" (one plan for all values)", command, s, pgx.QueryExecModeSimpleProtocol)
}

// few is how many rows may be scanned, or sorted: a page, what the smallest tables
// hold, what one owner has.
const few = 5_000

func (r run) check(t *testing.T) {
	t.Helper()
	for _, one := range r.plan.all() {
		var rows float64
		switch one.Kind {
		case "Seq Scan":
			rows = (one.Rows + one.Removed) * one.Loops
		case "Sort":
			rows = one.Plans[0].Rows * one.Plans[0].Loops
		}
		if rows > few {
			t.Errorf("%s of %.0f rows: %s", one, rows, r)
		}
	}
}

// TestNoStatementReadsAWholeTable lets the store do what it does all day, on a
// crowd, and has each statement that it sends explained (R35).
func TestNoStatementReadsAWholeTable(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a crowd takes its time to move in")
	}
	size, server := sizes(t), own(t, "shared_buffers=1GB", "max_wal_size=8GB", "synchronous_commit=off")
	url := migrated(t, server)
	open(t, url) // makes the partitions
	db := raw(t, url)
	size.fill(t, db)
	exec(t, db, "UPDATE audit_tree SET size = "+strconv.Itoa(size.events))

	heard := &listener{}
	cfg, err := postgres.Configure(secret.New(url), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	connect := func(setting, value string) *pgx.Conn {
		own := cfg.ConnConfig.Copy()
		own.RuntimeParams[setting] = value
		conn, err := pgx.ConnectConfig(t.Context(), own)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		return conn
	}
	conn, forced := connect("plan_cache_mode", "auto"), connect("plan_cache_mode", "force_generic_plan")
	cfg.ConnConfig.Tracer = heard
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	traced := stdlib.OpenDBFromPool(pool)
	s := store.New(traced, traced, 2, postgres.Dialect{})

	runs := map[string][]run{}
	for _, one := range everyday(t, s, size) {
		heard.take()
		if err := one.do(); err != nil {
			t.Fatalf("%s: %v", one.what, err)
		}
		for _, st := range heard.take() {
			if upper := strings.ToUpper(st.query); upper == "BEGIN" || upper == "COMMIT" || strings.HasPrefix(upper, "ROLLBACK") || st.query == "" {
				continue
			}
			r := explain(t, conn, one.what, st.query, st)
			r.check(t)
			kind, _, _ := strings.Cut(one.what, ":")
			runs[kind] = append(runs[kind], r)
			if !st.once && !strings.Contains(st.query, "unnest") {
				r := explainForced(t, forced, one.what, st)
				r.check(t)
				runs[kind] = append(runs[kind], r)
			}
		}
	}
	for kind, all := range runs {
		slices.SortFunc(all, func(a, b run) int { return int(b.spent - a.spent) })
		var spent, planning time.Duration
		for _, r := range all {
			spent += r.spent
			planning += r.planning
		}
		n := time.Duration(len(all))
		t.Logf("%s: %d plans, on average %v, and %v to plan", kind, n, spent/n, planning/n)
		for _, r := range all[:min(3, len(all))] {
			t.Logf("    %v, %.0f rows read: %s", r.spent, r.read, r)
		}
	}
}

// deed is something the store does.
type deed struct {
	what string
	do   func() error
}

// everyday is all the store does on a crowd.
func everyday(t *testing.T, s *store.Store, size crowd) []deed {
	t.Helper()
	ctx, org, now := t.Context(), organization.DefaultID(), time.Now()
	a, c := register(t, s)
	first := event(now, audit.TokenRevoked, a.ID)
	var batch []audit.Record
	for i := range 512 {
		e, err := s.EntryByKeyID(ctx, fmt.Sprintf("key-%d@example.com", 1+i*size.agents/512))
		if err != nil {
			t.Fatal(err)
		}
		batch = append(batch, use(e.Agent, e.Credential))
	}
	deeds := []deed{
		{"counter", func() error { _, err := s.Counter(ctx); return err }},
		{"entry by key id", func() error { _, err := s.EntryByKeyID(ctx, "key-77@example.com"); return err }},
		{"entry by credential", func() error { _, err := s.EntryByCredential(ctx, c.ID); return err }},
		{"token revoked", func() error { _, err := s.TokenRevoked(ctx, uuid.New()); return err }},
		{"revoking a token", func() error { return s.RevokeToken(ctx, uuid.New(), now, first) }},
		{"forgetting revocations", func() error { _, err := s.ForgetRevocations(ctx, now); return err }},
		{"one event", func() error { _, err := s.Event(ctx, org, first.ID); return err }},
		{"creating an agent", func() error { a, c, e := draft(); return s.CreateAgent(ctx, a, c, e) }},
		{"agents by email", func() error {
			_, err := s.AgentsByEmail(ctx, org, []string{"77@example.com", "78@example.com", "none"})
			return err
		}},
		{"updating an agent", func() error { return update(ctx, s, a, func() {}) }},
		{"an agent's credentials", func() error { _, err := s.Credentials(ctx, org, a.ID, page.Query{Limit: page.MaxLimit}); return err }},
		{"watching the clock", func() error {
			return s.WatchClock(ctx, func(now time.Time, _ audit.Clock) audit.Clock { return audit.Clock{Since: now, Seen: now} })
		}},
		{"retentions", func() error { _, err := s.Retained(ctx, 90); return err }},
		{"a drop", func() error {
			d := audit.Drop{Retained: audit.Retained{OrganizationID: org, Days: 20}, Before: ago(20), Events: 2000, Ranges: 2000}
			n, err := s.DropEvents(ctx, d, func(r audit.Ranges) audit.Event { return telling(d.Before, now, r) })
			if err == nil && n != 2000 {
				err = fmt.Errorf("%d events were dropped, want 2000", n)
			}
			return err
		}},
		{"a batch", func() error { _, err := s.AppendRecords(ctx, batch); return err }},
	}
	deeds = append(deeds, rotations(s, a, c)...)
	for _, after := range []page.Cursor{{}, {Time: now.AddDate(0, 0, -3), ID: uuid.New()}} {
		q := page.Query{Limit: page.MaxLimit, After: after}
		deeds = append(deeds, deed{"organizations", func() error { _, err := s.Organizations(ctx, q); return err }})
		for mask := range 1 << 6 {
			for name, like := range map[string]agent.Filter{
				"common":  {Status: "active", Type: "type-1", Owner: "owner-7", DeploymentEnv: "production", Capability: "common:use", Email: "77@example.com"},
				"rare":    {Status: "archived", Type: "type-3", Owner: "owner-11", DeploymentEnv: "development", Capability: "cap:7", Email: "78@example.com"},
				"unknown": {Status: "revoked", Type: "none", Owner: "none", DeploymentEnv: "staging", Capability: "none", Email: "none"},
			} {
				f := agent.Filter{
					Status: pick(mask, 0, like.Status), Type: pick(mask, 1, like.Type), Owner: pick(mask, 2, like.Owner),
					DeploymentEnv: pick(mask, 3, like.DeploymentEnv), Capability: pick(mask, 4, like.Capability), Email: pick(mask, 5, like.Email),
				}
				deeds = append(deeds, deed{"listing agents: " + name, func() error { _, err := s.Agents(ctx, org, f, q); return err }})
			}
			for name, like := range map[string]audit.Filter{
				"common":      {AgentID: uuid.MustParse("00000000-0000-4000-8000-000000000007"), ActorID: "admin-1", Action: "token.issued", Outcome: "success"},
				"rare":        {AgentID: a.ID, ActorID: "admin-3", Action: "key.rotated", Outcome: "denied"},
				"contrary":    {AgentID: uuid.MustParse("00000000-0000-4000-8000-000000000009"), ActorID: "admin-2", Action: "token.issued", Outcome: "denied"},
				"what is not": {AgentID: uuid.New(), ActorID: "none", Action: "none", Outcome: "denied"},
			} {
				f := audit.Filter{
					AgentID: pick(mask, 0, like.AgentID), ActorID: pick(mask, 1, like.ActorID), Action: pick(mask, 2, like.Action), Outcome: pick(mask, 3, like.Outcome),
					From: pick(mask, 4, now.AddDate(0, 0, -7)), To: pick(mask, 5, now.AddDate(0, 0, -2)),
				}
				deeds = append(deeds, deed{"listing events: " + name, func() error { _, err := s.Events(ctx, org, f, q); return err }})
			}
		}
	}
	return deeds
}

// pick gives v where the bit is set, and nothing otherwise.
func pick[T any](mask, bit int, v T) T {
	var nothing T
	if mask>>bit&1 == 1 {
		return v
	}
	return nothing
}
