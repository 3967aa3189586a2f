package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// CreateAgent stores the agent, its first credential and the events.
func (s *Store) CreateAgent(ctx context.Context, a agent.Agent, c credential.Credential, events ...audit.Event) error {
	return s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.claim(ctx, tx, a.ID, c.ID); err != nil {
			return err
		}
		errs, err := s.createAgents(ctx, tx, a.OrganizationID, []agent.New{{Agent: a, Credential: &c, Events: events}})
		if err != nil {
			return err
		}
		return errs[0]
	})
}

// CreateAgents stores agents of one organization, each with its credential and events.
func (s *Store) CreateAgents(ctx context.Context, organization uuid.UUID, all []agent.New) ([]error, error) {
	var errs []error
	err := s.transact(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		errs, err = s.createAgents(ctx, tx, organization, all)
		return err
	})
	return errs, err
}

// createAgents stores what can be stored, and says what is wrong with the rest. Whoever
// makes agents of an organization holds its row, so that what is read here still holds
// when it is written.
func (s *Store) createAgents(ctx context.Context, tx *sql.Tx, organization uuid.UUID, all []agent.New) ([]error, error) {
	room, limit, err := s.room(ctx, tx, organization)
	if err != nil {
		return nil, err
	}
	emails := make([]string, len(all))
	for i, one := range all {
		emails[i] = one.Agent.Email
	}
	have, err := s.agentsByEmail(ctx, tx, organization, emails)
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(all))
	var agents []agent.Agent
	var events []audit.Event
	for i, one := range all {
		switch {
		case slices.ContainsFunc(have, func(a agent.Agent) bool { return a.Email == one.Agent.Email }):
			errs[i] = agent.Exists(one.Agent.Email)
		case room == 0:
			errs[i] = fault.New(fault.Conflict, fault.CodeConflict, fmt.Sprintf("the organization has its maximum of %d agents", limit))
		default:
			room--
			agents, events = append(agents, one.Agent), append(events, one.Events...)
		}
	}
	if err := s.insertAgents(ctx, tx, agents); err != nil {
		return nil, err
	}
	for i, one := range all {
		if errs[i] == nil && one.Credential != nil {
			if err := s.saveCredential(ctx, tx, *one.Credential); err != nil {
				return nil, err
			}
		}
	}
	// The change counter stays: nothing remembered can rest on an agent that is new.
	return errs, s.append(ctx, tx, events...)
}

// room gives how many more agents the organization may have, and how many at most.
func (s *Store) room(ctx context.Context, tx *sql.Tx, organization uuid.UUID) (room, limit int64, err error) {
	var most sql.NullInt64
	err = s.row(ctx, tx, "SELECT max_agents FROM organizations WHERE id = $1"+s.dialect.ForUpdate(), organization).Scan(&most)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, 0, noOrganization()
	}
	if err != nil {
		return 0, 0, broken("reading the organization's limits", err)
	}
	if !most.Valid {
		return math.MaxInt64, math.MaxInt64, nil
	}
	var n int64
	if err := s.row(ctx, tx, "SELECT count(*) FROM agents WHERE organization_id = $1 AND status <> 'archived'", organization).Scan(&n); err != nil {
		return 0, 0, broken("counting agents", err)
	}
	return max(0, most.Int64-n), most.Int64, nil
}

func (s *Store) insertAgents(ctx context.Context, tx *sql.Tx, agents []agent.Agent) error {
	for chunk := range slices.Chunk(agents, most) {
		rows := giving("id uuid", "organization_id uuid", "email text", "agent_type text", "version text", "capabilities text", "owner text",
			"deployment_env text", "status text", "metadata text", "token_ttl bigint", "created_at timestamptz", "updated_at timestamptz", "revision bigint")
		for _, a := range chunk {
			rows.add(a.ID, a.OrganizationID, a.Email, a.Type, a.Version, a.Capabilities.String(), a.Owner,
				a.DeploymentEnv, string(a.Status), string(a.Metadata), int64(a.TokenTTL/time.Second), a.CreatedAt, a.UpdatedAt, a.Revision)
		}
		if err := s.insert(ctx, tx, "agents", rows); err != nil {
			return broken("storing agents", err)
		}
	}
	return s.insertCapabilities(ctx, tx, agents...)
}

// insertCapabilities adds the rows that the capability filter searches.
func (s *Store) insertCapabilities(ctx context.Context, tx *sql.Tx, agents ...agent.Agent) error {
	fresh := func() given {
		return giving("agent_id uuid", "organization_id uuid", "capability text", "created_at timestamptz", "status text")
	}
	rows := fresh()
	for i, a := range agents {
		for _, name := range a.Capabilities {
			rows.add(a.ID, a.OrganizationID, name, a.CreatedAt, string(a.Status))
		}
		if n := len(rows[0].Values); n == 0 || n < most && i < len(agents)-1 {
			continue
		}
		if err := s.insert(ctx, tx, "agent_capabilities", rows); err != nil {
			return broken("storing capabilities", err)
		}
		rows = fresh()
	}
	return nil
}

// insert adds given rows to a table.
func (s *Store) insert(ctx context.Context, tx *sql.Tx, table string, rows given) error {
	names := make([]string, len(rows))
	for i := range rows {
		names[i] = rows[i].Name
	}
	columns := strings.Join(names, ", ")
	clause, args := s.with(rows)
	_, err := s.exec(ctx, tx, clause+"INSERT INTO "+table+" ("+columns+") SELECT "+columns+" FROM given", args...)
	return err
}

// AgentsByEmail gives the organization's agents that have one of the emails, one that is
// named twice twice.
func (s *Store) AgentsByEmail(ctx context.Context, organization uuid.UUID, emails []string) ([]agent.Agent, error) {
	return s.agentsByEmail(ctx, s.read, organization, emails)
}

func (s *Store) agentsByEmail(ctx context.Context, q querier, organization uuid.UUID, emails []string) ([]agent.Agent, error) {
	var all []agent.Agent
	for chunk := range slices.Chunk(emails, most) {
		rows := giving("organization_id uuid", "email text")
		for _, email := range chunk {
			rows.add(organization, email)
		}
		clause, args := s.with(rows)
		found, err := list(ctx, s, q, scanAgent, clause+"SELECT "+agentColumns+
			" FROM given JOIN agents a ON a.organization_id = given.organization_id AND a.email = given.email", args...)
		if err != nil {
			return nil, broken("reading agents by their emails", err)
		}
		all = append(all, found...)
	}
	return all, nil
}
