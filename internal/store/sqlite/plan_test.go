package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
	"git.sentryagent.ai/sentryagent-idp/internal/store/sqlite"
)

// listener is the engine's dialect and keeps every statement it is given.
type listener struct {
	sqlite.Dialect
	mu         sync.Mutex
	statements []string
}

// Rewrite keeps what the engine is about to be given.
func (l *listener) Rewrite(query string) string {
	query = l.Dialect.Rewrite(query)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statements = append(l.statements, query)
	return query
}

func (l *listener) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.statements
	l.statements = nil
	return taken
}

var (
	parameter = regexp.MustCompile(`\?(\d+)`)
	// Tables of one row, or of a handful, are scanned, and what a statement brings along; so is an index that gives
	// all organizations in order, or what is marked for the schedule alone.
	scanned = regexp.MustCompile(`^SCAN (n|given|change_counter|audit_head|[ht]|part|audit_tree|audit_clock|audit_drop|database_clock|signing_keys|\d+ CONSTANT ROWS?|CONSTANT ROW|organizations USING INDEX organizations_by_time|revocations USING INDEX revocations_kept|c USING INDEX credentials_(pending|to_retire)|rotation_policies USING (COVERING )?INDEX rotation_policies_to_apply)$`)
)

// TestNoStatementReadsAWholeTable lets the store do all it can do and asks the
// engine how it carries out each statement.
func TestNoStatementReadsAWholeTable(t *testing.T) {
	ctx, path, org := t.Context(), filepath.Join(t.TempDir(), "agentidp.db"), organization.DefaultID()
	open(t, path)
	write, read, heard := raw(t, sqlite.WriteDSN(path)), raw(t, sqlite.ReadDSN(path)), &listener{}
	write.SetMaxOpenConns(1)
	s := store.New(write, read, 2, heard)
	a, c := register(t, s, "a@example.com")
	now := a.CreatedAt
	event := audit.System("test").Event(now, org, audit.AgentUpdated, a.Target()).About(a.ID)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	limit := int64(100)
	_, err := s.UpdateOrganization(ctx, org, func(o *organization.Organization) (audit.Event, error) {
		o.MaxAgents = &limit
		return audit.System("test").Event(now, org, audit.OrganizationUpdated, a.Target()), nil
	})
	must(err)
	register(t, s, "b@example.com")
	_, err = s.UpdateAgent(ctx, org, a.ID, func(a *agent.Agent) (audit.Event, error) {
		a.Status = agent.Revoked
		return event, nil
	})
	must(err)
	_, err = s.AgentsByEmail(ctx, org, []string{"a@example.com", "x@example.com"})
	must(err)
	must(s.SaveVerifier(ctx, c.ID, c.Verifier))
	must(s.RevokeToken(ctx, uuid.New(), now, audit.System("test").Event(now, org, audit.TokenRevoked, a.Target())))
	_, err = s.TokenRevoked(ctx, uuid.New())
	must(err)
	_, err = s.ForgetRevocations(ctx, now)
	must(err)
	_, err = s.AppendRecords(ctx, []audit.Record{
		{Event: audit.System("test").Event(now, org, audit.TokenIssued, a.Target()), Basis: &audit.Basis{
			Counter: 0, AgentID: a.ID, AgentRevision: 2, CredentialID: c.ID, CredentialRevision: 2,
		}},
	})
	must(err)
	_, err = s.Event(ctx, org, event.ID)
	must(err)
	_, err = s.EntryByKeyID(ctx, c.KeyID)
	must(err)
	_, err = s.EntryByCredential(ctx, c.ID)
	must(err)
	_, err = s.Credential(ctx, org, a.ID, c.ID)
	must(err)
	_, err = s.Credentials(ctx, org, a.ID, page.Query{Limit: page.MaxLimit})
	must(err)
	_, err = s.Leaves(ctx, 0, 1)
	must(err)
	_, err = s.Tiles(ctx, []tlog.Tile{{H: 8, W: 1}})
	must(err)
	_, err = s.Checkpoints(ctx, 1, 2)
	must(err)
	_, err = write.ExecContext(ctx, "UPDATE audit_tree SET size = 3")
	must(err)
	must(s.WatchClock(ctx, func(now time.Time, _ audit.Clock) audit.Clock { return audit.Clock{Since: now, Seen: now} }))
	_, err = s.Retained(ctx, 90)
	must(err)
	drop := audit.Drop{Retained: audit.Retained{OrganizationID: org, Days: 90}, Before: now.Add(time.Hour), Events: 2, Ranges: 2}
	n, err := s.DropEvents(ctx, drop, func(r audit.Ranges) audit.Event {
		return audit.System("test").Event(now, org, audit.Dropped, audit.Target{}).With(audit.Details{}.Int("count", r.Count()))
	})
	must(err)
	if n != 2 {
		t.Fatalf("%d events were dropped, want 2", n)
	}
	rotation(t, s, now, must)
	later := page.Cursor{Time: now, ID: uuid.New()}
	for _, after := range []page.Cursor{{}, later} {
		q := page.Query{Limit: 10, After: after}
		_, err = s.Organizations(ctx, q)
		must(err)
		for mask := range 1 << 6 {
			on := func(bit int, v string) string { return strings.Repeat(v, mask>>bit&1) }
			_, err = s.Agents(ctx, org, agent.Filter{
				Status: agent.Status(on(0, "active")), Type: on(1, "reader"), Owner: on(2, "platform"), DeploymentEnv: on(3, "production"),
				Capability: on(4, "files:read"), Email: on(5, "a@example.com"),
			}, q)
			must(err)
			f := audit.Filter{ActorID: on(0, a.ID.String()), Action: audit.Action(on(1, "x")), Outcome: audit.Outcome(on(2, "x"))}
			if mask>>3&1 == 1 {
				f.AgentID = a.ID
			}
			if mask>>4&1 == 1 {
				f.From = now.Add(-time.Hour)
			}
			if mask>>5&1 == 1 {
				f.To = now.Add(time.Hour)
			}
			_, err = s.Events(ctx, org, f, q)
			must(err)
			_, err = s.StoredEvents(ctx, audit.Part{Organization: org, After: 7, UpTo: 9, From: f.From, To: f.To})
			must(err)
		}
	}

	explained := map[string]bool{}
	for _, query := range heard.take() {
		if explained[query] || strings.Contains(query, "FROM signing_keys") {
			continue
		}
		explained[query] = true
		for _, step := range plan(t, write, query) {
			if pages := strings.Contains(query, "UNION ALL"); pages && (step == "SCAN found" || step == "SCAN own" || step == "SCAN others" || step == "USE TEMP B-TREE FOR ORDER BY") {
				continue // two pages, each found by its index, are put into one order
			}
			if strings.HasPrefix(step, "SCAN") && !scanned.MatchString(step) || strings.Contains(step, "TEMP B-TREE") && step != "USE TEMP B-TREE FOR LAST TERM OF ORDER BY" {
				t.Errorf("%s\n\tis carried out with: %s", query, step)
			}
		}
	}
	if len(explained) < 2*64+2*48 {
		t.Errorf("only %d statements were explained", len(explained))
	}
}

// rotation lets the store do all that rotations need.
func rotation(t *testing.T, s *store.Store, now time.Time, must func(error)) {
	t.Helper()
	ctx, org := t.Context(), organization.DefaultID()
	for _, kind := range []string{credential.AnyType, "reader"} {
		must(s.SetRotationPolicy(ctx, org, kind, func(*credential.RotationPolicy) (credential.RotationPolicy, audit.Event, error) {
			p := credential.DefaultPolicy()
			p.MaxAge, p.UpdatedAt = time.Hour, now
			return p, audit.System("test").Event(now, org, audit.RotationPolicySet, audit.Target{}), nil
		}))
	}
	a, c := register(t, s, "rotated@example.com")
	for more := true; more; {
		var err error
		more, err = s.ApplyRotationPolicy(ctx, 1, func(_ credential.RotationPolicy, c credential.Credential) (time.Time, bool) {
			return c.CreatedAt.Add(time.Hour), true
		}, func(credential.RotationPolicy, []credential.Credential) audit.Event {
			return audit.System("test").Event(now, org, audit.RotationPolicyApplied, audit.Target{})
		})
		must(err)
	}
	must(s.ChangeCredentials(ctx, org, a.ID, func(_ credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error) {
		return live, audit.System("test").Event(now, org, audit.CredentialRotated, a.Target()), nil
	}))
	_, err := s.RotationPolicies(ctx, org)
	must(err)
	due, err := s.DueCredentials(ctx, now.Add(time.Hour), 10)
	must(err)
	if len(due) == 0 {
		t.Fatal("nothing is due")
	}
	_, err = s.NoteLooks(ctx, []credential.Look{{ID: c.ID, Seen: due[0].WarnAt}})
	must(err)
	for _, after := range []uuid.UUID{uuid.Nil, c.ID} {
		_, err = s.UsedSuccessors(ctx, after, 10)
		must(err)
		_, err = s.RetiringCredentials(ctx, after, 10)
		must(err)
	}
	for _, after := range []page.Cursor{{}, {Time: now, ID: uuid.New()}} {
		_, err = s.ExpiringCredentials(ctx, org, now, now.Add(time.Hour), page.Query{Limit: 10, After: after})
		must(err)
	}
	must(s.NoteInstances(ctx, []credential.Instance{{CredentialID: c.ID, Name: "one", LastUsedAt: now}}))
	_, err = s.AgentInstances(ctx, org, a.ID, now)
	must(err)
	must(s.Maintain(ctx, now))
	must(s.RemoveRotationPolicy(ctx, org, "reader", audit.System("test").Event(now, org, audit.RotationPolicyRemoved, audit.Target{})))
}

// TestEveryFilterHasItsIndex wants each filter to be looked up, not tried on
// every row of the organization.
func TestEveryFilterHasItsIndex(t *testing.T) {
	path, org := filepath.Join(t.TempDir(), "agentidp.db"), organization.DefaultID()
	open(t, path)
	db, heard := raw(t, sqlite.ReadDSN(path)), &listener{}
	s := store.New(db, db, 2, heard)
	check := func(want string) {
		t.Helper()
		for _, query := range heard.take() {
			if steps := plan(t, db, query); !strings.Contains(steps[0], "("+want) {
				t.Errorf("%s\n\tis carried out with: %s; want %s", query, steps, want)
			}
		}
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, list := range []struct {
		after        page.Cursor
		agents, time string
	}{{}, {page.Cursor{Time: at, ID: uuid.New()}, " AND (created_at,id)<(?,?)", " AND time<?"}} {
		q := page.Query{Limit: 10, After: list.after}
		for column, f := range map[string]agent.Filter{
			"status": {Status: agent.Active}, "agent_type": {Type: "reader"}, "owner": {Owner: "platform"}, "deployment_env": {DeploymentEnv: "production"},
		} {
			if _, err := s.Agents(t.Context(), org, f, q); err != nil {
				t.Fatal(err)
			}
			check("organization_id=? AND " + column + "=?" + list.agents)
		}
		if _, err := s.Agents(t.Context(), org, agent.Filter{Email: "a@example.com"}, q); err != nil {
			t.Fatal(err)
		}
		check("organization_id=? AND email=?")
		if _, err := s.Agents(t.Context(), org, agent.Filter{Capability: "files:read"}, q); err != nil {
			t.Fatal(err)
		}
		check("organization_id=? AND capability=?" + strings.Replace(list.agents, "id", "agent_id", 1))
		for column, f := range map[string]audit.Filter{
			"agent_id": {AgentID: uuid.New()}, "actor_id": {ActorID: "x"}, "action": {Action: audit.TokenIssued}, "outcome": {Outcome: audit.Denied},
		} {
			if _, err := s.Events(t.Context(), org, f, q); err != nil {
				t.Fatal(err)
			}
			check("organization_id=? AND " + column + "=?" + list.time)
		}
		// Of an agent, by what it did itself and by what it did to others.
		if _, err := s.Events(t.Context(), org, audit.Filter{ActorID: uuid.NewString()}, q); err != nil {
			t.Fatal(err)
		}
		for _, query := range heard.take() {
			steps := strings.Join(plan(t, db, query), "; ")
			for _, want := range []string{"(organization_id=? AND agent_id=?" + list.time, "(organization_id=? AND actor_id=?" + list.time} {
				if !strings.Contains(steps, want) {
					t.Errorf("%s\n\tis carried out with: %s; want %s", query, steps, want)
				}
			}
		}
	}
	for want, after := range map[string]page.Cursor{
		"organization_id=? AND expires_at>? AND expires_at<?": {}, "organization_id=? AND (expires_at,id)>(?,?) AND expires_at<?": {Time: at, ID: uuid.New()},
	} {
		if _, err := s.ExpiringCredentials(t.Context(), org, at, at.Add(time.Hour), page.Query{Limit: 10, After: after}); err != nil {
			t.Fatal(err)
		}
		check(want)
	}
	if _, err := s.Events(t.Context(), org, audit.Filter{From: at, To: at.Add(time.Hour)}, page.Query{Limit: 10}); err != nil {
		t.Fatal(err)
	}
	check("organization_id=? AND time>? AND time<?")
}

// plan gives the steps in which the engine carries out a statement.
func plan(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	highest := 0
	for _, m := range parameter.FindAllStringSubmatch(query, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		highest = max(highest, n)
	}
	unnumbered := strings.Count(query, "?") - len(parameter.FindAllString(query, -1))
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, make([]any, max(highest, unnumbered))...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var steps []string
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}
