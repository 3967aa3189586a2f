package store

import (
	"context"
	"database/sql"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/revocation"
)

// openDecisions is where the decisions for the agent a lie that are not written yet.
const openDecisions = "FROM revocation_agents p JOIN revocations r ON r.place = p.place WHERE p.agent_id = a.id AND p.n > r.reached AND NOT p.settled"

// decided is the changes that were decided for the agent a and are not written yet, each
// with its place, in no order; NULL where there are none. applyDecided reads it.
const decided = "(SELECT string_agg(p.place || '@' || p.becomes || '@' || p.since, ' ') " + openDecisions + ")"

// decidedRevision is the agent's revision once all that is decided for it is written.
const decidedRevision = "a.revision + (SELECT count(*) " + openDecisions + ")"

// decidedStatus is the agent's status once all that is decided for it is written.
const decidedStatus = "coalesce((SELECT p.becomes " + openDecisions + " AND p.becomes <> '' ORDER BY p.place DESC LIMIT 1), a.status)"

// applyDecided makes an agent what was decided for it.
func applyDecided(a *agent.Agent, text string) {
	if text == "" {
		return
	}
	changes := map[int]agent.Change{}
	for one := range strings.FieldsSeq(text) {
		place, rest, _ := strings.Cut(one, "@")
		becomes, since, _ := strings.Cut(rest, "@")
		// Columns of numbers.
		at, _ := strconv.Atoi(place)
		micros, _ := strconv.ParseInt(since, 10, 64)
		changes[at] = agent.Change{Becomes: agent.Status(becomes), Since: time.UnixMicro(micros).UTC()}
	}
	for _, place := range slices.Sorted(maps.Keys(changes)) {
		changes[place].Apply(a)
	}
}

// decision is what a job decided for one agent.
type decision struct {
	place, n int64
	agent    agent.Agent // as it is written: its id and what a decision changes
	change   agent.Change
	settled  bool
}

func scanDecision(row scanner) (decision, error) {
	var (
		d     decision
		since int64
	)
	err := row.Scan(&d.place, &d.n, &d.agent.ID, &d.change.Becomes, &since, &d.settled, &d.agent.Status, when{&d.agent.TokensValidAfter}, when{&d.agent.UpdatedAt}, &d.agent.Revision)
	d.change.Since = time.UnixMicro(since).UTC()
	return d, err
}

const decisionColumns = "p.place, p.n, p.agent_id, p.becomes, p.since, p.settled, a.status, a.tokens_valid_after, a.updated_at, a.revision"

func (s *Store) decisions(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]decision, error) {
	all, err := list(ctx, s, tx, scanDecision, "SELECT "+decisionColumns+" "+query, args...)
	if err != nil {
		return nil, broken("reading what was decided for agents", err)
	}
	return all, nil
}

// settle writes, in their order, what was decided for an agent and is not written yet,
// within a transaction that holds the lock. Whoever changes an agent calls it first, so
// that no decision comes after what was done later.
func (s *Store) settle(ctx context.Context, tx *sql.Tx, agentID uuid.UUID) error {
	open, err := s.decisions(ctx, tx, strings.Replace(openDecisions, "WHERE", "JOIN agents a ON a.id = p.agent_id WHERE a.id = $1 AND", 1)+" ORDER BY p.place", agentID)
	if err != nil {
		return err
	}
	for i, d := range open {
		if i > 0 { // what was just written is what the next one finds
			d.agent = open[i-1].agent
		}
		j, err := scanJob(s.row(ctx, tx, "SELECT "+jobColumns+" FROM revocations r WHERE r.place = $1", d.place))
		if err != nil {
			return broken("reading a revocation of agents", err)
		}
		one := []decision{d}
		events, err := s.writeDecisions(ctx, tx, j, one, j.CreatedAt)
		if err != nil {
			return err
		}
		open[i] = one[0]
		if err := s.run(ctx, tx, []Statement{
			{"UPDATE revocation_agents SET settled = true WHERE place = $1 AND n = $2", []any{d.place, d.n}},
			{"UPDATE revocations SET written = written + 1 WHERE place = $1", []any{d.place}},
		}); err != nil {
			return err
		}
		if err := s.append(ctx, tx, events...); err != nil {
			return err
		}
	}
	return nil
}

// advance writes the next agents of a job, at most limit, within a transaction that holds
// the lock, completes it after the last, and gives the events.
func (s *Store) advance(ctx context.Context, tx *sql.Tx, j *revocation.Job, limit int, now time.Time) ([]audit.Event, error) {
	var reached int64
	if err := s.row(ctx, tx, "SELECT reached FROM revocations WHERE place = $1", j.Place).Scan(&reached); err != nil {
		return nil, broken("reading how far a revocation is written", err)
	}
	next, err := s.decisions(ctx, tx, "FROM revocation_agents p JOIN agents a ON a.id = p.agent_id WHERE p.place = $1 AND p.n > $2 ORDER BY p.n LIMIT "+
		strconv.Itoa(limit), s.dialect.Once([]any{j.Place, reached})...)
	if err != nil {
		return nil, err
	}
	var open []decision
	for _, d := range next {
		reached = d.n
		if !d.settled { // else whoever changed the agent had it written before
			open = append(open, d)
		}
	}
	events, err := s.writeDecisions(ctx, tx, *j, open, now)
	if err != nil {
		return nil, err
	}
	j.Written += int64(len(open))
	if len(next) < limit {
		j.CompletedAt = now
		events = append(events, audit.System("agentidp").Event(now, j.OrganizationID, audit.RevocationCompleted, j.Target()).
			With(audit.Details{}.String("action", string(j.Action)).Int("changed", j.Changed)))
	}
	if _, err := s.exec(ctx, tx, "UPDATE revocations SET written = $1, reached = $2, completed_at = $3 WHERE place = $4", j.Written, reached, j.CompletedAt, j.Place); err != nil {
		return nil, broken("noting how far a revocation is written", err)
	}
	return events, nil
}

// writeDecisions writes what a job decided for agents, which are then as written, and
// gives their events. The change counter stays: everybody saw the agents so already.
func (s *Store) writeDecisions(ctx context.Context, tx *sql.Tx, j revocation.Job, open []decision, now time.Time) ([]audit.Event, error) {
	if len(open) == 0 {
		return nil, nil
	}
	agents := giving("id uuid", "status text", "valid_after timestamptz", "updated_at timestamptz", "revision bigint")
	events := make([]audit.Event, len(open))
	for i := range open {
		a := &open[i].agent
		from := a.Status
		open[i].change.Apply(a)
		agents.add(a.ID, string(a.Status), a.TokensValidAfter, a.UpdatedAt, a.Revision)
		events[i] = j.Event(a.ID, from, now)
	}
	clause, args := s.with(agents)
	statements := []Statement{{clause + `UPDATE agents SET status = given.status, tokens_valid_after = given.valid_after, updated_at = given.updated_at,
		revision = given.revision FROM given WHERE agents.id = given.id`, args}}
	ids := giving("id uuid")
	for _, d := range open {
		ids.add(d.agent.ID)
	}
	becomes := j.Action.Becomes()
	if becomes != "" {
		given, ids := s.with(ids)
		statements = append(statements, Statement{given + "UPDATE agent_capabilities SET status = '" + string(becomes) + "' WHERE agent_id IN (SELECT id FROM given)", ids})
	}
	if becomes.Ended() {
		revoked := giving("id uuid", "at timestamptz")
		for _, d := range open {
			revoked.add(d.agent.ID, j.CreatedAt)
		}
		given, args := s.with(revoked)
		statements = append(statements, Statement{given + `UPDATE credentials SET revoked_at = given.at, revision = credentials.revision + 1
			FROM given WHERE credentials.agent_id = given.id AND credentials.revoked_at IS NULL`, args})
	}
	return events, s.run(ctx, tx, statements)
}

// forgetAtOnce is how many agents of completed jobs one transaction forgets.
const forgetAtOnce = 10_000

// forgetDecisions forgets some of the agents of completed jobs that nobody can undo any
// more. The jobs themselves stay.
func (s *Store) forgetDecisions(ctx context.Context, now time.Time) error {
	place, err := list(ctx, s, s.read, func(row scanner) (place int64, err error) { err = row.Scan(&place); return place, err },
		`SELECT place FROM revocations WHERE NOT forgotten AND completed_at IS NOT NULL
		AND (action <> 'suspend' OR undone_by IS NOT NULL OR completed_at < $1) ORDER BY place LIMIT 1`, now.Add(-revocation.UndoWithin))
	if err != nil {
		return broken("looking for revocations to forget", err)
	}
	for _, place := range place {
		n, err := s.exec(ctx, s.write, `DELETE FROM revocation_agents WHERE place = $1 AND n IN (
			SELECT n FROM revocation_agents WHERE place = $1 LIMIT `+strconv.Itoa(forgetAtOnce)+")", place)
		if err == nil && n < forgetAtOnce {
			_, err = s.exec(ctx, s.write, "UPDATE revocations SET forgotten = true WHERE place = $1", place)
		}
		if err != nil {
			return broken("forgetting the agents of a revocation", err)
		}
	}
	return nil
}
