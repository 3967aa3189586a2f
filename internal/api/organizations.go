package api

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/organization"
)

type organizationView struct {
	ID                 uuid.UUID `json:"id"`
	Name               string    `json:"name"`
	DisplayName        string    `json:"displayName"`
	MaxAgents          *int64    `json:"maxAgents"`
	TokenRatePerMinute *int64    `json:"tokenRatePerMinute"`
	AuditRetentionDays *int64    `json:"auditRetentionDays"`
	AuditIntrospection bool      `json:"auditIntrospection"`
	LegalHold          bool      `json:"legalHold"`
	CreatedAt          time.Time `json:"createdAt"`
	UpdatedAt          time.Time `json:"updatedAt"`
}

func viewOrganization(o organization.Organization) organizationView {
	return organizationView{
		ID: o.ID, Name: o.Name, DisplayName: o.DisplayName, MaxAgents: o.MaxAgents, TokenRatePerMinute: o.TokenRatePerMinute,
		AuditRetentionDays: o.AuditRetentionDays, AuditIntrospection: o.AuditIntrospection, LegalHold: o.LegalHold,
		CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt,
	}
}

func answerOrganization(status int, o organization.Organization) reply {
	return tagged(o.Revision, answer(status, viewOrganization(o)))
}

func (h *Handler) createOrganization(ctx context.Context, c call) (reply, error) {
	o, err := c.object(false)
	if err != nil {
		return nil, err
	}
	d := organization.Draft{Name: o.required("name")}
	if s := o.text("displayName"); s != nil {
		d.DisplayName = *s
	}
	for _, limit := range []struct {
		name string
		to   **int64
	}{{"maxAgents", &d.MaxAgents}, {"tokenRatePerMinute", &d.TokenRatePerMinute}, {"auditRetentionDays", &d.AuditRetentionDays}} {
		if value := o.limit(limit.name); value != nil {
			*limit.to = *value
		}
	}
	if b := read[bool](o, "auditIntrospection", "true or false"); b != nil {
		d.AuditIntrospection = *b
	}
	if b := read[bool](o, "legalHold", "true or false"); b != nil {
		d.LegalHold = *b
	}
	o.readOnly("id", "createdAt", "updatedAt")
	key := c.idempotencyKey()
	if err := c.accept(ctx, func() error { return h.cfg.Organizations.Validate(d) }); err != nil {
		return nil, err
	}
	return h.once(ctx, c, key, func(ctx context.Context) (reply, error) {
		made, err := h.cfg.Organizations.Create(ctx, c.by.Origin, d)
		return answerFounded(made), err
	}, func(ctx context.Context, made []uuid.UUID) (reply, error) {
		o, err := h.cfg.Organizations.Get(ctx, made[0])
		return answerFounded(o), err
	})
}

func answerFounded(o organization.Organization) reply {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/organizations/"+o.ID.String())
		answerOrganization(http.StatusCreated, o)(w, r)
	}
}

func (h *Handler) listOrganizations(ctx context.Context, c call) (reply, error) {
	q := c.query.page()
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	p, err := h.cfg.Organizations.List(ctx, q)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, viewList(p.Items, p.Next, viewOrganization)), nil
}

func (h *Handler) getOrganization(ctx context.Context, c call) (reply, error) {
	id := c.id("organizationId")
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	o, err := h.cfg.Organizations.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	return answerOrganization(http.StatusOK, o), nil
}

func (h *Handler) patchOrganization(ctx context.Context, c call) (reply, error) {
	id := c.id("organizationId")
	o, err := c.object(false, mergePatch)
	if err != nil {
		return nil, err
	}
	p := organization.Patch{
		DisplayName: o.text("displayName"), MaxAgents: o.limit("maxAgents"), TokenRatePerMinute: o.limit("tokenRatePerMinute"),
		AuditRetentionDays: o.limit("auditRetentionDays"), AuditIntrospection: read[bool](o, "auditIntrospection", "true or false"),
		LegalHold: read[bool](o, "legalHold", "true or false"), IfRevision: c.ifMatch(),
	}
	o.readOnly("id", "name", "createdAt", "updatedAt")
	if err := c.accept(ctx, func() error { return h.cfg.Organizations.ValidatePatch(p) }); err != nil {
		return nil, err
	}
	changed, err := h.cfg.Organizations.Update(ctx, c.by.Origin, id, p)
	if err != nil {
		return nil, err
	}
	return answerOrganization(http.StatusOK, changed), nil
}
