package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// agentRow is what is stored of an agent, and what was decided for it; agentColumns tells
// also when it was used last.
const (
	agentRow = `a.id, a.organization_id, a.email, a.agent_type, a.version, a.capabilities, a.owner, a.deployment_env,
	a.status, a.metadata, a.token_ttl, a.created_at, a.updated_at, a.tokens_valid_after, a.revision, ` + decided
	agentColumns = agentRow + `,
	(SELECT max(u.last_used_at) FROM credentials o JOIN credential_uses u ON u.credential_id = o.id WHERE o.agent_id = a.id)`
)

// agentDestinations is where an agentRow is scanned to; finish turns what was scanned as
// text into its type, and applies what was decided for the agent.
func agentDestinations(a *agent.Agent) (dest []any, finish func()) {
	var capabilities, metadata string
	var changes sql.NullString
	var ttl int64
	dest = []any{
		&a.ID, &a.OrganizationID, &a.Email, &a.Type, &a.Version, &capabilities, &a.Owner, &a.DeploymentEnv,
		&a.Status, &metadata, &ttl,
		when{&a.CreatedAt},
		when{&a.UpdatedAt},
		when{&a.TokensValidAfter},
		&a.Revision,
		&changes,
	}
	finish = func() {
		a.Capabilities = scope.Set(strings.Fields(capabilities))
		a.Metadata = json.RawMessage(metadata)
		a.TokenTTL = time.Duration(ttl) * time.Second
		applyDecided(a, changes.String)
	}
	return dest, finish
}

func scanAgent(row scanner) (agent.Agent, error) {
	var a agent.Agent
	dest, finish := agentDestinations(&a)
	if err := row.Scan(append(dest, when{&a.LastAuthAt})...); err != nil {
		return agent.Agent{}, err
	}
	finish()
	return a, nil
}

// saveCapabilities keeps the rows that the capability filter searches.
func (s *Store) saveCapabilities(ctx context.Context, tx *sql.Tx, a agent.Agent) error {
	if _, err := s.exec(ctx, tx, "DELETE FROM agent_capabilities WHERE agent_id = $1", a.ID); err != nil {
		return broken("storing capabilities", err)
	}
	return s.insertCapabilities(ctx, tx, a)
}

func (s *Store) agent(ctx context.Context, q querier, organization, id uuid.UUID, lock string) (agent.Agent, error) {
	a, err := scanAgent(s.row(ctx, q, "SELECT "+agentColumns+" FROM agents a WHERE a.id = $1 AND a.organization_id = $2"+lock, id, organization))
	if errors.Is(err, sql.ErrNoRows) {
		return a, fault.New(fault.NotFound, fault.CodeAgentNotFound, "there is no such agent")
	}
	if err != nil {
		return a, broken("reading an agent", err)
	}
	return a, nil
}

// Agent gives one agent of the organization.
func (s *Store) Agent(ctx context.Context, organization, id uuid.UUID) (agent.Agent, error) {
	return s.agent(ctx, s.read, organization, id, "")
}

// UpdateAgent reads, changes and writes one agent and its event.
func (s *Store) UpdateAgent(ctx context.Context, organization, id uuid.UUID, change func(*agent.Agent) (audit.Event, error)) (agent.Agent, error) {
	var a agent.Agent
	err := s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lock(ctx, tx); err != nil {
			return err
		}
		if err := s.settle(ctx, tx, id); err != nil {
			return err
		}
		before, err := s.agent(ctx, tx, organization, id, s.dialect.ForUpdate())
		if err != nil {
			return err
		}
		if before.LastAuthAt, err = s.lastToken(ctx, tx, before); err != nil {
			return err
		}
		a = before
		event, err := change(&a)
		if err != nil {
			a = before
			return err
		}
		a.Revision++
		if _, err := s.exec(ctx, tx, `UPDATE agents SET agent_type = $1, version = $2, capabilities = $3, owner = $4, deployment_env = $5,
			status = $6, metadata = $7, token_ttl = $8, updated_at = $9, tokens_valid_after = $10, revision = $11 WHERE id = $12`,
			a.Type, a.Version, a.Capabilities.String(), a.Owner, a.DeploymentEnv, string(a.Status), string(a.Metadata),
			int64(a.TokenTTL/time.Second), a.UpdatedAt, a.TokensValidAfter, a.Revision, a.ID); err != nil {
			return broken("storing an agent", err)
		}
		if !slices.Equal(a.Capabilities, before.Capabilities) || a.Status != before.Status {
			if err := s.saveCapabilities(ctx, tx, a); err != nil {
				return err
			}
		}
		if a.Status.Ended() && !before.Status.Ended() {
			if _, err := s.exec(ctx, tx, "UPDATE credentials SET revoked_at = $1, revision = revision + 1 WHERE agent_id = $2 AND revoked_at IS NULL", a.UpdatedAt, a.ID); err != nil {
				return broken("revoking credentials", err)
			}
		}
		if err := s.raise(ctx, tx); err != nil {
			return err
		}
		return s.append(ctx, tx, event)
	})
	if errors.Is(err, agent.ErrUnchanged) {
		err = nil
	}
	return a, err
}

// lastToken gives when the agent got its last token, of the record: what is noted is true
// to a second, and what ends the agent's tokens must end every one of them.
func (s *Store) lastToken(ctx context.Context, tx *sql.Tx, a agent.Agent) (time.Time, error) {
	at := a.LastAuthAt
	err := s.row(ctx, tx, "SELECT time FROM audit_events WHERE organization_id = $1 AND agent_id = $2 AND action = $3 AND outcome = $4 ORDER BY time DESC LIMIT 1",
		a.OrganizationID, a.ID, string(audit.TokenIssued), string(audit.Success)).Scan(when{&at})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return at, broken("reading an agent's last token", err)
	}
	return at, nil
}

// Agents lists an organization's agents, newest first.
func (s *Store) Agents(ctx context.Context, organization uuid.UUID, f agent.Filter, q page.Query) (page.Page[agent.Agent], error) {
	w, from, order := where{}, "agents a", "a"
	if f.Capability != "" {
		// The join's own copies let its index give the order, and find a rare status.
		from, order = "agent_capabilities k JOIN agents a ON a.id = k.agent_id", "k"
		w.add("k.organization_id = $?", organization)
		w.add("k.capability = $?", f.Capability)
	} else {
		w.add("a.organization_id = $?", organization)
	}
	w.addText(order+".status = $?", string(f.Status))
	w.addText("a.agent_type = $?", f.Type)
	w.addText("a.owner = $?", f.Owner)
	w.addText("a.deployment_env = $?", f.DeploymentEnv)
	w.addText("a.email = $?", f.Email)
	id := "a.id"
	if order == "k" {
		id = "k.agent_id"
	}
	w.after(order+".created_at", id, q.After)
	rows, err := listed(ctx, s, scanAgent, "SELECT "+agentColumns+" FROM "+from+" WHERE "+w.String()+
		" ORDER BY "+order+".created_at DESC, "+id+" DESC LIMIT "+strconv.Itoa(q.Limit+1), s.dialect.Once(w.args)...)
	if err != nil {
		return page.Page[agent.Agent]{}, broken("listing agents", err)
	}
	return page.Cut(rows, q.Limit, func(a agent.Agent) page.Cursor { return page.Cursor{Time: a.CreatedAt, ID: a.ID} }), nil
}
