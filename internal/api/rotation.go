package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

// policyView is a rotation policy as the API shows it.
type policyView struct {
	AgentType         string                `json:"agentType"`
	MaxAgeSeconds     *int64                `json:"maxAgeSeconds"`
	OverlapSeconds    int64                 `json:"overlapSeconds"`
	WarnBeforeSeconds []int64               `json:"warnBeforeSeconds"`
	SelfRotation      bool                  `json:"selfRotation"`
	OnLeak            credential.LeakAction `json:"onLeak"`
	UpdatedAt         time.Time             `json:"updatedAt"`
}

func viewPolicy(p credential.RotationPolicy) policyView {
	v := policyView{
		AgentType: p.AgentType, OverlapSeconds: int64(p.Overlap / time.Second), SelfRotation: p.SelfRotation, OnLeak: p.OnLeak, UpdatedAt: p.UpdatedAt,
	}
	if p.MaxAge != 0 {
		v.MaxAgeSeconds = new(int64(p.MaxAge / time.Second))
	}
	for _, d := range p.WarnBefore {
		v.WarnBeforeSeconds = append(v.WarnBeforeSeconds, int64(d/time.Second))
	}
	return v
}

type policiesView struct {
	Items []policyView `json:"items"`
}

func (h *Handler) listPolicies(ctx context.Context, c call) (reply, error) {
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	all, err := h.cfg.Rotation.List(ctx, c.tenant)
	if err != nil {
		return nil, err
	}
	v := policiesView{Items: make([]policyView, 0, len(all))}
	for _, p := range all {
		v.Items = append(v.Items, viewPolicy(p))
	}
	return answer(http.StatusOK, v), nil
}

func (h *Handler) setPolicy(ctx context.Context, c call) (reply, error) {
	p := credential.DefaultPolicy()
	p.AgentType = c.policyType()
	o, err := c.object(false)
	if err != nil {
		return nil, err
	}
	if seconds := o.limit("maxAgeSeconds"); seconds != nil && *seconds != nil {
		p.MaxAge = span(**seconds)
		if p.MaxAge == 0 {
			p.MaxAge = -time.Second // zero would mean that there is none
		}
	}
	if seconds := read[int64](o, "overlapSeconds", "a whole number"); seconds != nil {
		p.Overlap = span(*seconds)
	}
	if all := o.numbers("warnBeforeSeconds"); all != nil {
		p.WarnBefore = nil
		for _, n := range *all {
			p.WarnBefore = append(p.WarnBefore, span(n))
		}
	}
	if allowed := read[bool](o, "selfRotation", "true or false"); allowed != nil {
		p.SelfRotation = *allowed
	}
	if action := o.text("onLeak"); action != nil {
		p.OnLeak = credential.LeakAction(*action)
	}
	if err := c.accept(ctx, p.Validate); err != nil {
		return nil, err
	}
	p, err = h.cfg.Rotation.Set(ctx, c.by.Origin, c.tenant, p)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, viewPolicy(p)), nil
}

// span is a number of seconds; one that would overflow is too long anyhow.
func span(seconds int64) time.Duration {
	const most = 100 * 366 * 24 * 3600
	return time.Duration(min(max(seconds, -1), most)) * time.Second
}

// numbers reads a list of whole numbers.
func (o *object) numbers(name string) *[]int64 {
	raw, ok := o.member(name)
	if !ok {
		return nil
	}
	var all []*int64
	if isNull(raw) || json.Unmarshal(raw, &all) != nil {
		o.wrong(name, "type", "must be a list of whole numbers")
		return nil
	}
	numbers := make([]int64, len(all))
	for i, n := range all {
		if n == nil {
			o.wrong(name, "type", "must be a list of whole numbers")
			return nil
		}
		numbers[i] = *n
	}
	return &numbers
}

// policyType gives the agent type that the path names, or AnyType.
func (c *call) policyType() string {
	name := c.r.PathValue("agentType")
	if name != credential.AnyType && !agent.ValidType(name) {
		c.wrong("agentType", "pattern", "must be * or a type of agents: 1 to 64 lower-case letters, digits, _ and -, beginning with a letter")
	}
	return name
}

func (h *Handler) removePolicy(ctx context.Context, c call) (reply, error) {
	name := c.policyType()
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	return noContent, h.cfg.Rotation.Remove(ctx, c.by.Origin, c.tenant, name)
}

func (h *Handler) listExpiring(ctx context.Context, c call) (reply, error) {
	before, after, q := c.query.moment("expiresBefore"), c.query.moment("expiresAfter"), c.query.page()
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	if after.IsZero() {
		after = h.cfg.Now().UTC()
	}
	p, err := h.cfg.Rotation.Expiring(ctx, c.tenant, after, before, q)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, viewList(p.Items, p.Next, h.viewCredential)), nil
}
