package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

// eventView is an audit event as the API shows it (R4).
type eventView struct {
	ID             uuid.UUID       `json:"id"`
	Sequence       int64           `json:"sequence"`
	Time           time.Time       `json:"time"`
	OrganizationID uuid.UUID       `json:"organizationId"`
	AgentID        *uuid.UUID      `json:"agentId"`
	Actor          audit.Actor     `json:"actor"`
	Action         audit.Action    `json:"action"`
	Target         audit.Target    `json:"target"`
	Outcome        audit.Outcome   `json:"outcome"`
	Reason         string          `json:"reason"`
	RequestID      string          `json:"requestId"`
	SourceIP       string          `json:"sourceIp"`
	Details        json.RawMessage `json:"details"`
}

func viewEvent(e audit.Event) eventView {
	return eventView{
		ID: e.ID, Sequence: e.Sequence, Time: e.Time, OrganizationID: e.OrganizationID, AgentID: maybe(e.AgentID), Actor: e.Actor, Action: e.Action,
		Target: e.Target, Outcome: e.Outcome, Reason: e.Reason, RequestID: e.RequestID, SourceIP: e.SourceIP, Details: e.Details.JSON(),
	}
}

func (h *Handler) listEvents(ctx context.Context, c call) (reply, error) {
	f := audit.Filter{
		AgentID: c.query.id("agentId"), ActorID: c.query.text("actorId"), Action: oneOf(c.query, "action", audit.Actions()...),
		Outcome: oneOf(c.query, "outcome", audit.Success, audit.Denied),
		From:    c.query.moment("from"), To: c.query.moment("to"),
	}
	q := c.query.page()
	if !f.From.IsZero() && !f.To.IsZero() && f.To.Before(f.From) {
		c.wrong("to", "minimum", "must not lie before from")
	}
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	p, err := h.cfg.Log.Events(ctx, c.tenant, f, q)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, viewList(p.Items, p.Next, viewEvent)), nil
}

// event gives the event that the path names. The call's tenant is known then.
func (h *Handler) event(ctx context.Context, c *call) (audit.Event, error) {
	id := c.id("eventId")
	if err := c.accept(ctx, nil); err != nil {
		return audit.Event{}, err
	}
	return h.cfg.Log.Event(ctx, c.tenant, id)
}

func (h *Handler) getEvent(ctx context.Context, c call) (reply, error) {
	e, err := h.event(ctx, &c)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, viewEvent(e)), nil
}
