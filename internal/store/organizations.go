package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

const organizationColumns = `id, name, display_name, max_agents, token_rate_per_minute, audit_retention_days, audit_introspection,
	legal_hold, created_at, updated_at, revision`

func scanOrganization(row scanner) (organization.Organization, error) {
	var o organization.Organization
	err := row.Scan(&o.ID, &o.Name, &o.DisplayName, &o.MaxAgents, &o.TokenRatePerMinute, &o.AuditRetentionDays, &o.AuditIntrospection,
		&o.LegalHold, when{&o.CreatedAt}, when{&o.UpdatedAt}, &o.Revision)
	return o, err
}

func noOrganization() error {
	return fault.New(fault.NotFound, fault.CodeNotFound, "there is no such organization")
}

// CreateOrganization stores an organization and its event.
func (s *Store) CreateOrganization(ctx context.Context, o organization.Organization, event audit.Event) error {
	return s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.claim(ctx, tx, o.ID); err != nil {
			return err
		}
		_, err := s.exec(ctx, tx, "INSERT INTO organizations ("+organizationColumns+") VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11)",
			o.ID, o.Name, o.DisplayName, o.MaxAgents, o.TokenRatePerMinute, o.AuditRetentionDays, o.AuditIntrospection,
			o.LegalHold, o.CreatedAt, o.UpdatedAt, o.Revision)
		if err != nil {
			if s.dialect.IsUniqueViolation(err) {
				return fault.New(fault.Conflict, fault.CodeConflict, "an organization named "+o.Name+" exists already")
			}
			return broken("storing an organization", err)
		}
		return s.append(ctx, tx, event)
	})
}

func (s *Store) organization(ctx context.Context, q querier, id uuid.UUID, lock string) (organization.Organization, error) {
	o, err := scanOrganization(s.row(ctx, q, "SELECT "+organizationColumns+" FROM organizations WHERE id = $1"+lock, id))
	if errors.Is(err, sql.ErrNoRows) {
		return o, noOrganization()
	}
	if err != nil {
		return o, broken("reading an organization", err)
	}
	return o, nil
}

// Organization gives one organization.
func (s *Store) Organization(ctx context.Context, id uuid.UUID) (organization.Organization, error) {
	return s.organization(ctx, s.read, id, "")
}

// UpdateOrganization reads, changes and writes one organization and its event.
func (s *Store) UpdateOrganization(ctx context.Context, id uuid.UUID, change func(*organization.Organization) (audit.Event, error)) (organization.Organization, error) {
	var o organization.Organization
	err := s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var err error
		if o, err = s.organization(ctx, tx, id, s.dialect.ForUpdate()); err != nil {
			return err
		}
		event, err := change(&o)
		if err != nil {
			return err
		}
		o.Revision++
		if _, err := s.exec(ctx, tx, `UPDATE organizations SET display_name = $1, max_agents = $2, token_rate_per_minute = $3, audit_retention_days = $4,
			audit_introspection = $5, legal_hold = $6, updated_at = $7, revision = $8 WHERE id = $9`,
			o.DisplayName, o.MaxAgents, o.TokenRatePerMinute, o.AuditRetentionDays, o.AuditIntrospection, o.LegalHold, o.UpdatedAt, o.Revision, o.ID); err != nil {
			return broken("storing an organization", err)
		}
		return s.append(ctx, tx, event)
	})
	if errors.Is(err, organization.ErrUnchanged) {
		err = nil
	}
	return o, err
}

// Organizations lists all organizations, newest first.
func (s *Store) Organizations(ctx context.Context, q page.Query) (page.Page[organization.Organization], error) {
	w := where{terms: []string{"1 = 1"}}
	w.after("created_at", "id", q.After)
	rows, err := listed(ctx, s, scanOrganization, "SELECT "+organizationColumns+" FROM organizations WHERE "+w.String()+
		" ORDER BY created_at DESC, id DESC LIMIT "+strconv.Itoa(q.Limit+1), w.args...)
	if err != nil {
		return page.Page[organization.Organization]{}, broken("listing organizations", err)
	}
	return page.Cut(rows, q.Limit, func(o organization.Organization) page.Cursor { return page.Cursor{Time: o.CreatedAt, ID: o.ID} }), nil
}
