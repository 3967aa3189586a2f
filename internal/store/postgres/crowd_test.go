package postgres_test

import (
	"database/sql"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// crowd is how much a database of the plan tests holds.
type crowd struct{ agents, events int }

// sizes gives what is asked for in the environment: AGENTIDP_PLAN_AGENTS and
// AGENTIDP_PLAN_EVENTS.
func sizes(t *testing.T) crowd {
	t.Helper()
	number := func(name string, otherwise int) int {
		text := os.Getenv(name)
		if text == "" {
			return otherwise
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	return crowd{agents: number("AGENTIDP_PLAN_AGENTS", 200_000), events: number("AGENTIDP_PLAN_EVENTS", 1_000_000)}
}

// days is over how many days before today the events are spread, a partition to each.
const days = 30

// fill lets a crowd move in: nearly all agents active and nearly all events tokens,
// as in life, so that some values of each filter are common and some are rare.
func (c crowd) fill(t *testing.T, db *sql.DB) {
	t.Helper()
	start := time.Now()
	exec(t, db, `CREATE FUNCTION agent_no(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$`)
	exec(t, db, `CREATE FUNCTION event_no(at timestamptz, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
		SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000' || '8' || lpad(to_hex(n), 15, '0'))::uuid $$`)
	var all sync.WaitGroup
	all.Go(func() { c.fillRegistry(t, db) })
	const workers = 3
	for w := range workers {
		all.Go(func() {
			for back := 1 + w; back <= days; back += workers {
				c.fillDay(t, db, back)
			}
		})
	}
	all.Wait()
	exec(t, db, "UPDATE audit_head SET sequence = "+strconv.Itoa(c.events))
	exec(t, db, "VACUUM ANALYZE")
	t.Logf("%d agents and %d events moved in within %v", c.agents, c.events, time.Since(start).Round(time.Second))
}

func (c crowd) fillRegistry(t *testing.T, db *sql.DB) {
	n := strconv.Itoa(c.agents)
	for _, statement := range []string{
		`INSERT INTO agents (id, organization_id, email, agent_type, version, capabilities, owner, deployment_env, status, created_at, updated_at)
			SELECT agent_no(n), '00000000-0000-4000-8000-000000000001', n || '@example.com', 'type-' || n % 8, 'v1.0.0', 'cap:' || n % 50 || ' common:use', 'owner-' || n % 499,
			(ARRAY['production','production','staging','development'])[1 + n / 3 % 4],
			(ARRAY['active','suspended','revoked','archived'])[CASE WHEN n % 100 < 90 THEN 1 WHEN n % 100 < 95 THEN 2 WHEN n % 100 < 98 THEN 3 ELSE 4 END],
			now() - make_interval(mins => ` + n + ` - n), now() FROM generate_series(1, ` + n + `) AS n`,
		`INSERT INTO agent_capabilities SELECT id, organization_id, unnest(string_to_array(capabilities, ' ')), created_at, status FROM agents`,
		`INSERT INTO credentials (id, agent_id, organization_id, key_id, fingerprint, fingerprint_key, created_at, expires_at, warn_at)
			SELECT gen_random_uuid(), id, organization_id, 'key-' || email, '\x00', 'k', created_at, now() + (created_at - now() + interval '1 year'), now() + (created_at - now() + interval '6 months') FROM agents`,
		`INSERT INTO revoked_tokens SELECT gen_random_uuid(), now() + make_interval(secs => n) FROM generate_series(1, ` + n + ` / 10) AS n`,
	} {
		// The rows fit each other: no need to look up every reference.
		exec(t, db, "BEGIN; SET LOCAL session_replication_role = replica; "+statement+"; COMMIT")
	}
}

// fillDay fills a day before today and attaches it, which makes its indexes at once.
func (c crowd) fillDay(t *testing.T, db *sql.DB, back int) {
	const date = "2006-01-02 15:04:05Z"
	from := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -back)
	name, perDay := "audit_events_"+from.Format("20060102"), c.events/days
	exec(t, db, "CREATE TABLE "+name+" (LIKE audit_events)")
	exec(t, db, fmt.Sprintf(`INSERT INTO %s SELECT n, event_no(at, n), '00000000-0000-4000-8000-000000000001', at, agent,
		CASE WHEN n %% 50 = 0 THEN 'admin-' || n %% 7 ELSE agent::text END,
		CASE WHEN n %% 50 = 0 THEN 'agent.updated' WHEN n %% 33 = 0 THEN 'token.denied' WHEN n %% 20001 = 0 THEN 'key.rotated' ELSE 'token.issued' END,
		CASE WHEN n %% 50 <> 0 AND n %% 33 = 0 THEN 'denied' ELSE 'success' END, convert_to('{"v":1,"details":{},"more":"' || repeat('x', 300) || '"}', 'UTF8')
		FROM (SELECT n, timestamptz '%s' + make_interval(secs => 86400.0 * i / %d) AS at, agent_no(1 + (n * 7919) %% %d) AS agent
		FROM (SELECT i, i + %d::bigint AS n FROM generate_series(0, %d - 1) AS i) AS x) AS y`,
		name, from.Format(date), perDay, c.agents, 1+(days-back)*perDay, perDay))
	exec(t, db, fmt.Sprintf("ALTER TABLE audit_events ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')", name, from.Format(date), from.AddDate(0, 0, 1).Format(date)))
}
