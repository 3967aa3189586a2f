package api

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

// usesView tells who uses a credential.
type usesView struct {
	Since      time.Time      `json:"since"`
	Instances  int            `json:"instances"`
	StillUsing int            `json:"stillUsing"`
	Items      []instanceView `json:"items"`
}

type instanceView struct {
	Instance    string     `json:"instance"`
	Kind        string     `json:"kind"`
	FirstUsedAt time.Time  `json:"firstUsedAt"`
	LastUsedAt  time.Time  `json:"lastUsedAt"`
	MovedTo     *uuid.UUID `json:"movedTo"`
}

func viewUses(u credential.Uses) usesView {
	v := usesView{Since: u.Since, Instances: u.Instances, StillUsing: u.StillUsing, Items: make([]instanceView, 0, len(u.Of))}
	for _, one := range u.Of {
		kind := "address"
		if one.Named {
			kind = "name"
		}
		v.Items = append(v.Items, instanceView{Instance: one.Name, Kind: kind, FirstUsedAt: one.FirstUsedAt, LastUsedAt: one.LastUsedAt, MovedTo: maybe(one.MovedTo)})
	}
	return v
}

func (h *Handler) listUses(ctx context.Context, c call) (reply, error) {
	agentID, id := c.id("agentId"), c.id("credentialId")
	within := credential.DefaultWithin
	if seconds, named := c.query.count("withinSeconds"); named {
		within = span(seconds)
	}
	if err := c.accept(ctx, func() error { return credential.ValidateWithin(within) }); err != nil {
		return nil, err
	}
	uses, err := h.cfg.Retirement.Uses(ctx, c.tenant, agentID, id, within)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, viewUses(uses)), nil
}

func (h *Handler) brownOut(ctx context.Context, c call) (reply, error) {
	agentID, id := c.id("agentId"), c.id("credentialId")
	o, err := c.object(true)
	if err != nil {
		return nil, err
	}
	d := credential.DefaultBrownout
	if seconds := read[int64](o, "durationSeconds", "a whole number"); seconds != nil {
		d = span(*seconds)
	}
	if err := c.accept(ctx, func() error { return credential.ValidateBrownout(d) }); err != nil {
		return nil, err
	}
	changed, err := h.cfg.Retirement.Brownout(ctx, c.by.Origin, c.tenant, agentID, id, d)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, h.viewCredential(changed)), nil
}

func (h *Handler) retire(ctx context.Context, c call) (reply, error) {
	agentID, id := c.id("agentId"), c.id("credentialId")
	o, err := c.object(false)
	if err != nil {
		return nil, err
	}
	var unused time.Duration
	if _, there := o.members["unusedForSeconds"]; !there {
		o.known = append(o.known, "unusedForSeconds")
		o.wrong("unusedForSeconds", "required", "is required")
	} else if seconds := o.limit("unusedForSeconds"); seconds != nil && *seconds != nil {
		unused = span(max(**seconds, -1))
		if unused == 0 {
			unused = -time.Second // zero would mean never
		}
	}
	if err := c.accept(ctx, func() error { return credential.ValidateUnused(unused) }); err != nil {
		return nil, err
	}
	changed, err := h.cfg.Retirement.RetireWhenUnused(ctx, c.by.Origin, c.tenant, agentID, id, unused)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, h.viewCredential(changed)), nil
}
