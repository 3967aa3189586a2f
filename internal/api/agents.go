package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
)

// agentView is an agent as the API shows it (R27).
type agentView struct {
	ID              uuid.UUID       `json:"id"`
	OrganizationID  uuid.UUID       `json:"organizationId"`
	Email           string          `json:"email"`
	AgentType       string          `json:"agentType"`
	Version         string          `json:"version"`
	Capabilities    []string        `json:"capabilities"`
	Owner           string          `json:"owner"`
	DeploymentEnv   string          `json:"deploymentEnv"`
	Status          agent.Status    `json:"status"`
	CreatedAt       time.Time       `json:"createdAt"`
	UpdatedAt       time.Time       `json:"updatedAt"`
	LastAuthAt      *time.Time      `json:"lastAuthAt"`
	Metadata        json.RawMessage `json:"metadata"`
	TokenTTLSeconds *int64          `json:"tokenTtlSeconds"`
	Credential      *issuedView     `json:"credential,omitempty"`
}

func viewAgent(a agent.Agent) agentView {
	v := agentView{
		ID: a.ID, OrganizationID: a.OrganizationID, Email: a.Email, AgentType: a.Type, Version: a.Version, Capabilities: a.Capabilities,
		Owner: a.Owner, DeploymentEnv: a.DeploymentEnv, Status: a.Status, CreatedAt: a.CreatedAt, UpdatedAt: a.UpdatedAt,
		LastAuthAt: moment(a.LastAuthAt), Metadata: a.Metadata,
	}
	if a.TokenTTL != 0 {
		seconds := int64(a.TokenTTL / time.Second)
		v.TokenTTLSeconds = &seconds
	}
	return v
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

type listView[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"nextCursor"`
}

func viewList[T, V any](items []T, next string, view func(T) V) listView[V] {
	l := listView[V]{Items: make([]V, 0, len(items))}
	for _, item := range items {
		l.Items = append(l.Items, view(item))
	}
	if next != "" {
		l.NextCursor = &next
	}
	return l
}

// answerAgent answers with an agent and its ETag.
func answerAgent(status int, a agent.Agent, v agentView) reply {
	return tagged(a.Revision, answer(status, v))
}

func tagged(revision int64, inner reply) reply {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag(revision))
		inner(w, r)
	}
}

func (h *Handler) createAgent(ctx context.Context, c call) (reply, error) {
	o, err := c.object(false)
	if err != nil {
		return nil, err
	}
	d := o.draft()
	o.readOnly("id", "status", "createdAt", "updatedAt", "lastAuthAt")
	key := c.idempotencyKey()
	if err := c.accept(ctx, func() error { return h.cfg.Agents.Validate(c.named, d) }); err != nil {
		return nil, err
	}
	return h.once(ctx, c, key, func(ctx context.Context) (reply, error) {
		a, issued, err := h.cfg.Agents.Create(ctx, c.by, c.tenant, d)
		if err != nil {
			return nil, err
		}
		return answerCreated(a, viewIssued(issued)), nil
	}, func(ctx context.Context, made []uuid.UUID) (reply, error) {
		a, err := h.cfg.Agents.Get(ctx, c.tenant, made[0])
		if err != nil {
			return nil, err
		}
		first, err := h.cfg.Credentials.Get(ctx, c.tenant, made[0], made[1])
		return answerCreated(a, viewMade(first)), err
	})
}

// draft reads what is said of an agent that is to be made.
func (o *object) draft() agent.Draft {
	d := agent.Draft{
		Email: o.required("email"), Type: o.required("agentType"), Version: o.required("version"),
		Owner: o.required("owner"), DeploymentEnv: o.required("deploymentEnv"), Metadata: o.metadata(),
	}
	if capabilities := o.texts("capabilities"); capabilities != nil {
		d.Capabilities = *capabilities
	} else if _, there := o.members["capabilities"]; !there {
		o.wrong("capabilities", "required", "is required")
	}
	if ttl := o.ttl(); ttl != nil {
		d.TokenTTL = *ttl
	}
	return d
}

func answerCreated(a agent.Agent, first issuedView) reply {
	v := viewAgent(a)
	v.Credential = &first
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/agents/"+a.ID.String())
		answerAgent(http.StatusCreated, a, v)(w, r)
	}
}

func (o *object) metadata() json.RawMessage {
	raw, ok := o.member("metadata")
	if !ok {
		return nil
	}
	if len(raw) == 0 || raw[0] != '{' {
		o.wrong("metadata", "type", "must be a JSON object")
		return nil
	}
	return raw
}

// ttl reads tokenTtlSeconds; null takes the agent's own lifetime away.
func (o *object) ttl() *time.Duration {
	seconds := nullable[int64](o, "tokenTtlSeconds", "a whole number")
	if seconds == nil {
		return nil
	}
	var ttl time.Duration
	if *seconds != nil {
		const most = 366 * 24 * 3600 // what overflows is too long anyhow
		ttl = time.Duration(min(max(**seconds, -1), most)) * time.Second
		if ttl == 0 {
			ttl = -time.Second // zero would mean that there is none
		}
	}
	return &ttl
}

func (h *Handler) listAgents(ctx context.Context, c call) (reply, error) {
	f := c.query.agents(agent.Active, agent.Suspended, agent.Revoked, agent.Archived)
	f.Email = c.query.text("email")
	q := c.query.page()
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	p, err := h.cfg.Agents.List(ctx, c.tenant, f, q)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, viewList(p.Items, p.Next, viewAgent)), nil
}

// agents reads which agents are meant, of one of the statuses.
func (q *query) agents(statuses ...agent.Status) agent.Filter {
	return agent.Filter{
		Status: oneOf(q, "status", statuses...), Type: q.text("agentType"), Owner: q.text("owner"),
		DeploymentEnv: oneOf(q, "deploymentEnv", "development", "staging", "production"), Capability: q.text("capability"),
	}
}

func (h *Handler) getAgent(ctx context.Context, c call) (reply, error) {
	id := c.id("agentId")
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	a, err := h.cfg.Agents.Get(ctx, c.tenant, id)
	if err != nil {
		return nil, err
	}
	return answerAgent(http.StatusOK, a, viewAgent(a)), nil
}

func (h *Handler) patchAgent(ctx context.Context, c call) (reply, error) {
	id := c.id("agentId")
	o, err := c.object(false, mergePatch)
	if err != nil {
		return nil, err
	}
	p := agent.Patch{
		Type: o.text("agentType"), Version: o.text("version"), Capabilities: o.texts("capabilities"),
		Owner: o.text("owner"), DeploymentEnv: o.text("deploymentEnv"), TokenTTL: o.ttl(), IfRevision: c.ifMatch(),
	}
	if raw, ok := o.member("metadata"); ok {
		p.Metadata = raw
	}
	o.readOnly("id", "email", "status", "organizationId", "createdAt", "updatedAt", "lastAuthAt")
	if err := c.accept(ctx, func() error { return h.cfg.Agents.ValidatePatch(c.named, p) }); err != nil {
		return nil, err
	}
	a, err := h.cfg.Agents.Update(ctx, c.by, c.tenant, id, p)
	if err != nil {
		return nil, err
	}
	return answerAgent(http.StatusOK, a, viewAgent(a)), nil
}

// mover is a step in an agent's lifecycle.
type mover func(ctx context.Context, by policy.Caller, org, id uuid.UUID, reason string, ifRevision ...int64) (agent.Agent, error)

func (h *Handler) move(m mover) operation {
	return func(ctx context.Context, c call) (reply, error) {
		id := c.id("agentId")
		o, err := c.object(true)
		if err != nil {
			return nil, err
		}
		var reason string
		if s := o.text("reason"); s != nil {
			reason = *s
		}
		if err := c.accept(ctx, func() error { return h.cfg.Agents.ValidateReason(reason) }); err != nil {
			return nil, err
		}
		a, err := m(ctx, c.by, c.tenant, id, reason, c.ifMatch()...)
		if err != nil {
			return nil, err
		}
		return answerAgent(http.StatusOK, a, viewAgent(a)), nil
	}
}

func (h *Handler) archiveAgent(ctx context.Context, c call) (reply, error) {
	id := c.id("agentId")
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	return noContent, h.cfg.Agents.Archive(ctx, c.by, c.tenant, id, c.ifMatch()...)
}
