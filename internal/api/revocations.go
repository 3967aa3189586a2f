package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/revocation"
)

// revocationView is a job as the API shows it.
type revocationView struct {
	ID             uuid.UUID         `json:"id"`
	OrganizationID uuid.UUID         `json:"organizationId"`
	Action         revocation.Action `json:"action"`
	Selector       json.RawMessage   `json:"selector"`
	Reason         string            `json:"reason"`
	Status         string            `json:"status"`
	Matched        int64             `json:"matched"`
	Changed        int64             `json:"changed"`
	Written        int64             `json:"written"`
	CreatedAt      time.Time         `json:"createdAt"`
	CompletedAt    *time.Time        `json:"completedAt"`
	Undoes         *uuid.UUID        `json:"undoes"`
	UndoneBy       *uuid.UUID        `json:"undoneBy"`
	Receipt        string            `json:"receipt"`
}

func viewRevocation(j revocation.Job) revocationView {
	v := revocationView{
		ID: j.ID, OrganizationID: j.OrganizationID, Action: j.Action, Selector: json.RawMessage(j.Selector.String()), Reason: j.Reason,
		Status: "running", Matched: j.Matched, Changed: j.Changed, Written: j.Written, CreatedAt: j.CreatedAt, CompletedAt: moment(j.CompletedAt),
		Undoes: maybe(j.Undoes), UndoneBy: maybe(j.UndoneBy), Receipt: j.Receipt,
	}
	if j.Completed() {
		v.Status = "completed"
	}
	return v
}

// answerRevocation answers 200 where all is written, and 202 where a job still writes.
func answerRevocation(j revocation.Job) reply {
	status := http.StatusAccepted
	if j.Completed() {
		status = http.StatusOK
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/revocations/"+j.ID.String())
		answer(status, viewRevocation(j))(w, r)
	}
}

func (h *Handler) startRevocation(ctx context.Context, c call) (reply, error) {
	o, err := c.object(false)
	if err != nil {
		return nil, err
	}
	order := revocation.Order{Action: revocation.Action(o.required("action"))}
	if reason := o.text("reason"); reason != nil {
		order.Reason = *reason
	}
	dry := o.flag("dryRun")
	if s := o.object("selector"); s != nil {
		order.Selector = revocation.Selector{
			AgentIDs: s.ids("agentIds"), Owner: s.some("owner"), AgentType: s.some("agentType"), DeploymentEnv: s.some("deploymentEnv"),
			Capability: s.some("capability"), IssuedBefore: s.past("issuedBefore"),
		}
		s.unknown()
	}
	key := c.idempotencyKey()
	if err := c.accept(ctx, func() error { return h.cfg.Revocations.Validate(order) }); err != nil {
		return nil, err
	}
	if dry {
		radius, err := h.cfg.Revocations.Radius(ctx, c.by, c.tenant, order)
		if err != nil {
			return nil, err
		}
		return answer(http.StatusOK, viewRadius(radius)), nil
	}
	return h.revocationOnce(ctx, c, key, func(ctx context.Context) (revocation.Job, error) {
		return h.cfg.Revocations.Start(ctx, c.by, c.tenant, order)
	})
}

func (h *Handler) undoRevocation(ctx context.Context, c call) (reply, error) {
	id := c.id("revocationId")
	o, err := c.object(true)
	if err != nil {
		return nil, err
	}
	var reason string
	if s := o.text("reason"); s != nil {
		reason = *s
	}
	key := c.idempotencyKey()
	if err := c.accept(ctx, func() error { return h.cfg.Revocations.ValidateReason(reason) }); err != nil {
		return nil, err
	}
	return h.revocationOnce(ctx, c, key, func(ctx context.Context) (revocation.Job, error) {
		return h.cfg.Revocations.Undo(ctx, c.by, c.tenant, id, reason)
	})
}

// revocationOnce starts a job, or shows the one that this request has started already.
func (h *Handler) revocationOnce(ctx context.Context, c call, key string, start func(context.Context) (revocation.Job, error)) (reply, error) {
	return h.once(ctx, c, key, func(ctx context.Context) (reply, error) {
		j, err := start(ctx)
		if err != nil {
			return nil, err
		}
		return answerRevocation(j), nil
	}, func(ctx context.Context, made []uuid.UUID) (reply, error) {
		j, err := h.cfg.Revocations.Get(ctx, c.tenant, made[0])
		if err != nil {
			return nil, err
		}
		return answerRevocation(j), nil
	})
}

func (h *Handler) getRevocation(ctx context.Context, c call) (reply, error) {
	id := c.id("revocationId")
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	j, err := h.cfg.Revocations.Get(ctx, c.tenant, id)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, viewRevocation(j)), nil
}

func (h *Handler) listRevocations(ctx context.Context, c call) (reply, error) {
	q := c.query.page()
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	p, err := h.cfg.Revocations.List(ctx, c.tenant, q)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, viewList(p.Items, p.Next, viewRevocation)), nil
}

// radiusView is what an order would touch.
type radiusView struct {
	DryRun           bool        `json:"dryRun"`
	Matched          int64       `json:"matched"`
	Changed          int64       `json:"changed"`
	Credentials      int64       `json:"credentials"`
	LiveTokenHolders int64       `json:"liveTokenHolders"`
	Owners           []shareView `json:"owners"`
	OwnersTotal      int64       `json:"ownersTotal"`
	IncludesCaller   bool        `json:"includesCaller"`
}

type shareView struct {
	Owner  string `json:"owner"`
	Agents int64  `json:"agents"`
}

func viewRadius(r revocation.Radius) radiusView {
	v := radiusView{
		DryRun: true, Matched: r.Matched, Changed: r.Changed, Credentials: r.Credentials, LiveTokenHolders: r.LiveTokenHolders,
		Owners: make([]shareView, 0, len(r.Owners)), OwnersTotal: r.OwnersTotal, IncludesCaller: r.IncludesCaller,
	}
	for _, share := range r.Owners {
		v.Owners = append(v.Owners, shareView(share))
	}
	return v
}
