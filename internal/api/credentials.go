package api

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

// issuedView is a new credential; its secret is shown this once.
type issuedView struct {
	ID           uuid.UUID  `json:"id"`
	Label        string     `json:"label"`
	ClientID     uuid.UUID  `json:"clientId"`
	ClientSecret *string    `json:"clientSecret"`
	CreatedAt    time.Time  `json:"createdAt"`
	ExpiresAt    *time.Time `json:"expiresAt"`
	RotatedFrom  *uuid.UUID `json:"rotatedFrom"`
}

func viewIssued(c credential.Issued) issuedView {
	v, secret := viewMade(c.Credential), c.Secret.Value().Reveal()
	v.ClientSecret = &secret
	return v
}

// viewMade is a credential whose secret has been shown.
func viewMade(c credential.Credential) issuedView {
	return issuedView{
		ID: c.ID, Label: c.Label, ClientID: c.AgentID,
		CreatedAt: c.CreatedAt, ExpiresAt: moment(c.ExpiresAt), RotatedFrom: maybe(c.RotatedFrom),
	}
}

func maybe(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

// credentialView is a credential without anything secret.
type credentialView struct {
	ID          uuid.UUID         `json:"id"`
	AgentID     uuid.UUID         `json:"agentId"`
	Label       string            `json:"label"`
	Status      credential.Status `json:"status"`
	CreatedAt   time.Time         `json:"createdAt"`
	ExpiresAt   *time.Time        `json:"expiresAt"`
	LastUsedAt  *time.Time        `json:"lastUsedAt"`
	RotatedFrom *uuid.UUID        `json:"rotatedFrom"`
	Canary      bool              `json:"canary"`
	// RefusedUntil is null where no brownout is under way.
	RefusedUntil       *time.Time `json:"refusedUntil"`
	RetireAfterSeconds *int64     `json:"retireAfterSeconds"`
}

func (h *Handler) viewCredential(c credential.Credential) credentialView {
	now := h.cfg.Now()
	v := credentialView{
		ID: c.ID, AgentID: c.AgentID, Label: c.Label, Status: c.Status(now), CreatedAt: c.CreatedAt,
		ExpiresAt: moment(c.ExpiresAt), LastUsedAt: moment(c.LastUsedAt), RotatedFrom: maybe(c.RotatedFrom),
		Canary: c.Canary,
	}
	if now.Before(c.RefusedUntil) {
		v.RefusedUntil = moment(c.RefusedUntil)
	}
	if c.RetireAfter > 0 {
		v.RetireAfterSeconds = new(int64(c.RetireAfter / time.Second))
	}
	return v
}

func (h *Handler) createCredential(ctx context.Context, c call) (reply, error) {
	agentID := c.id("agentId")
	o, err := c.object(true)
	if err != nil {
		return nil, err
	}
	request, key := credentialRequest(o), c.idempotencyKey()
	if canary := read[bool](o, "canary", "true or false"); canary != nil {
		request.Canary = *canary
	}
	if err := c.accept(ctx, func() error { return h.cfg.Credentials.Validate(request) }); err != nil {
		return nil, err
	}
	return h.issueOnce(ctx, c, key, func(ctx context.Context) (credential.Issued, error) {
		return h.cfg.Credentials.Create(ctx, c.by, c.tenant, agentID, request)
	})
}

// issueOnce answers with a new credential.
func (h *Handler) issueOnce(ctx context.Context, c call, key string, issue func(ctx context.Context) (credential.Issued, error)) (reply, error) {
	return h.once(ctx, c, key, func(ctx context.Context) (reply, error) {
		issued, err := issue(ctx)
		if err != nil {
			return nil, err
		}
		return answer(http.StatusCreated, viewIssued(issued)), nil
	}, func(ctx context.Context, made []uuid.UUID) (reply, error) {
		first, err := h.cfg.Credentials.Get(ctx, c.tenant, made[0], made[1])
		return answer(http.StatusCreated, viewMade(first)), err
	})
}

func credentialRequest(o *object) credential.Request {
	r := credential.Request{ExpiresAt: o.moment("expiresAt")}
	if label := o.text("label"); label != nil {
		r.Label = *label
	}
	return r
}

func (h *Handler) rotateCredential(ctx context.Context, c call) (reply, error) {
	agentID, id := c.id("agentId"), c.id("credentialId")
	o, err := c.object(true)
	if err != nil {
		return nil, err
	}
	request := credentialRequest(o)
	request.Overlap = credential.DefaultOverlap
	if seconds := read[int64](o, "overlapSeconds", "a whole number"); seconds != nil {
		const most = int64(credential.MaxOverlap/time.Second) + 1 // what overflows is too long anyhow
		request.Overlap = time.Duration(min(max(*seconds, -1), most)) * time.Second
	}
	key := c.idempotencyKey()
	if err := c.accept(ctx, func() error { return h.cfg.Credentials.Validate(request) }); err != nil {
		return nil, err
	}
	return h.issueOnce(ctx, c, key, func(ctx context.Context) (credential.Issued, error) {
		return h.cfg.Credentials.Rotate(ctx, c.by, c.tenant, agentID, id, request)
	})
}

func (h *Handler) listCredentials(ctx context.Context, c call) (reply, error) {
	agentID, q := c.id("agentId"), c.query.page()
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	p, err := h.cfg.Credentials.List(ctx, c.tenant, agentID, q)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, viewList(p.Items, p.Next, h.viewCredential)), nil
}

func (h *Handler) revokeCredential(ctx context.Context, c call) (reply, error) {
	agentID, id := c.id("agentId"), c.id("credentialId")
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	return noContent, h.cfg.Credentials.Revoke(ctx, c.by, c.tenant, agentID, id)
}
