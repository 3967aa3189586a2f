package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

const policyColumns = "organization_id, agent_type, coalesce(max_age, 0), overlap, warn_before, self_rotation, on_leak, updated_at, revision"

func scanPolicy(row scanner) (credential.RotationPolicy, error) {
	var (
		p      credential.RotationPolicy
		before string
	)
	err := row.Scan(&p.OrganizationID, &p.AgentType, span{&p.MaxAge}, span{&p.Overlap}, &before, &p.SelfRotation, &p.OnLeak, when{&p.UpdatedAt}, &p.Revision)
	if err != nil {
		return p, err
	}
	for text := range strings.FieldsSeq(before) {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return p, fmt.Errorf("reading when to warn: %w", err)
		}
		p.WarnBefore = append(p.WarnBefore, time.Duration(n)*time.Second)
	}
	return p, nil
}

// RotationPolicy gives the policy that holds for a type of agents, nil where none does.
func (s *Store) RotationPolicy(ctx context.Context, organization uuid.UUID, agentType string) (*credential.RotationPolicy, error) {
	return s.rotationPolicy(ctx, s.read, organization, agentType)
}

func (s *Store) rotationPolicy(ctx context.Context, q querier, organization uuid.UUID, agentType string) (*credential.RotationPolicy, error) {
	found, err := list(ctx, s, q, scanPolicy, "SELECT "+policyColumns+" FROM rotation_policies WHERE organization_id = $1 AND agent_type IN ($2, '*')", organization, agentType)
	if err != nil {
		return nil, broken("reading a rotation policy", err)
	}
	for i := range found {
		if found[i].AgentType == agentType {
			return &found[i], nil
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	return &found[0], nil
}

// RotationPolicies gives an organization's policies, by agent type.
func (s *Store) RotationPolicies(ctx context.Context, organization uuid.UUID) ([]credential.RotationPolicy, error) {
	all, err := list(ctx, s, s.read, scanPolicy, "SELECT "+policyColumns+" FROM rotation_policies WHERE organization_id = $1 ORDER BY agent_type", organization)
	if err != nil {
		return nil, broken("listing rotation policies", err)
	}
	return all, nil
}

// SetRotationPolicy writes the policy of one type, and what it holds for is to be looked
// at again.
func (s *Store) SetRotationPolicy(ctx context.Context, organization uuid.UUID, agentType string,
	change func(current *credential.RotationPolicy) (credential.RotationPolicy, audit.Event, error),
) error {
	return s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lock(ctx, tx); err != nil {
			return err
		}
		all, err := list(ctx, s, tx, scanPolicy, "SELECT "+policyColumns+" FROM rotation_policies WHERE organization_id = $1", organization)
		if err != nil {
			return broken("reading rotation policies", err)
		}
		var current *credential.RotationPolicy
		for i := range all {
			if all[i].AgentType == agentType {
				current = &all[i]
			}
		}
		if current == nil && len(all) >= credential.MaxPolicies {
			return fault.New(fault.Conflict, fault.CodeConflict, fmt.Sprintf("the organization has its maximum of %d rotation policies", credential.MaxPolicies))
		}
		p, event, err := change(current)
		if err != nil {
			return err
		}
		before := make([]string, len(p.WarnBefore))
		for i, d := range p.WarnBefore {
			before[i] = strconv.FormatInt(int64(d/time.Second), 10)
		}
		_, err = s.exec(ctx, tx, `INSERT INTO rotation_policies (organization_id, agent_type, max_age, overlap, warn_before, self_rotation, on_leak, updated_at, revision, applied)
			VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10) ON CONFLICT (organization_id, agent_type) DO UPDATE SET max_age = excluded.max_age, overlap = excluded.overlap,
			warn_before = excluded.warn_before, self_rotation = excluded.self_rotation, on_leak = excluded.on_leak, updated_at = excluded.updated_at,
			revision = excluded.revision, applied = excluded.applied, applied_time = NULL, applied_id = NULL`,
			organization, agentType, positive(int64(p.MaxAge/time.Second)), int64(p.Overlap/time.Second), strings.Join(before, " "),
			p.SelfRotation, string(p.OnLeak), p.UpdatedAt, p.Revision, false)
		if err != nil {
			return broken("storing a rotation policy", err)
		}
		return s.append(ctx, tx, event)
	})
}

// RemoveRotationPolicy removes the policy of one type.
func (s *Store) RemoveRotationPolicy(ctx context.Context, organization uuid.UUID, agentType string, event audit.Event) error {
	return s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		n, err := s.exec(ctx, tx, "DELETE FROM rotation_policies WHERE organization_id = $1 AND agent_type = $2", organization, agentType)
		if err != nil {
			return broken("removing a rotation policy", err)
		}
		if n == 0 {
			return fault.New(fault.NotFound, fault.CodeNotFound, "there is no such rotation policy")
		}
		return s.append(ctx, tx, event)
	})
}

// unapplied is a policy that is being brought to the credentials that were there before.
type unapplied struct {
	credential.RotationPolicy
	at time.Time
	id uuid.UUID
}

// ApplyRotationPolicy brings a policy that was set to the credentials of the next agents
// that it holds for.
func (s *Store) ApplyRotationPolicy(ctx context.Context, limit int, decide func(credential.RotationPolicy, credential.Credential) (time.Time, bool),
	event func(credential.RotationPolicy, []credential.Credential) audit.Event,
) (more bool, err error) {
	var waiting int
	// Most of the time there is nothing to do, and nobody is to be held up for that.
	if err := s.row(ctx, s.read, "SELECT count(*) FROM rotation_policies WHERE NOT applied").Scan(&waiting); err != nil {
		return false, broken("looking for rotation policies to apply", err)
	}
	if waiting == 0 {
		return false, nil
	}
	err = s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lock(ctx, tx); err != nil {
			return err
		}
		more, err = s.applyNext(ctx, tx, limit, decide, event)
		return err
	})
	return more && err == nil, err
}

func (s *Store) applyNext(ctx context.Context, tx *sql.Tx, limit int, decide func(credential.RotationPolicy, credential.Credential) (time.Time, bool),
	event func(credential.RotationPolicy, []credential.Credential) audit.Event,
) (more bool, err error) {
	var u unapplied
	found, err := list(ctx, s, tx, func(row scanner) (key struct {
		org  uuid.UUID
		kind string
	}, err error,
	) {
		err = row.Scan(&key.org, &key.kind, when{&u.at}, maybeID{&u.id})
		return key, err
	}, "SELECT organization_id, agent_type, applied_time, applied_id FROM rotation_policies WHERE NOT applied ORDER BY organization_id, agent_type LIMIT 1")
	if err != nil || len(found) == 0 {
		return false, maybeBroken("looking for a rotation policy to apply", err)
	}
	policies, err := list(ctx, s, tx, scanPolicy, "SELECT "+policyColumns+" FROM rotation_policies WHERE organization_id = $1", found[0].org)
	if err != nil {
		return false, broken("reading rotation policies", err)
	}
	ofOthers := map[string]bool{}
	for _, p := range policies {
		if p.AgentType == found[0].kind {
			u.RotationPolicy = p
		} else {
			ofOthers[p.AgentType] = true
		}
	}
	agents, err := s.nextAgents(ctx, tx, u, limit)
	if err != nil {
		return false, err
	}
	var changed []credential.Credential
	for i, a := range agents {
		u.at, u.id = a.at, a.id
		if u.AgentType == credential.AnyType && ofOthers[a.kind] {
			agents[i].skip = true
		}
	}
	live, err := s.liveOf(ctx, tx, agents)
	if err != nil {
		return false, err
	}
	for _, c := range live {
		if end, ok := decide(u.RotationPolicy, c); ok {
			c.ExpiresAt = end
			changed = append(changed, c)
		}
	}
	if err := s.writeEnds(ctx, tx, changed, live); err != nil {
		return false, err
	}
	done := len(agents) < limit
	if _, err := s.exec(ctx, tx, "UPDATE rotation_policies SET applied = $1, applied_time = $2, applied_id = $3 WHERE organization_id = $4 AND agent_type = $5",
		done, u.at, u.id, u.OrganizationID, u.AgentType); err != nil {
		return false, broken("noting how far a rotation policy is applied", err)
	}
	if len(changed) > 0 {
		if err := s.raise(ctx, tx); err != nil {
			return false, err
		}
		return true, s.append(ctx, tx, event(u.RotationPolicy, changed))
	}
	return true, nil
}

func maybeBroken(doing string, err error) error {
	if err == nil || errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return broken(doing, err)
}
