package storetest

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

func holderTests() []test {
	return []test{
		{"a holder is given with its live credentials", holderRead},
		{"another organization's agent is not found", holderOfAnother},
		{"a request that was given up is unavailable", func(b *bench) {
			a, _ := b.create(b.draft())
			ctx, cancel := context.WithCancel(b.Context())
			cancel()
			_, _, err := b.store.Holder(ctx, b.org, a.ID)
			b.wantFault("a request that was given up", err, fault.CodeUnavailable)
		}},
	}
}

func holderRead(b *bench) {
	d := b.draft()
	d.Status, d.Capabilities = agent.Suspended, scope.New("a:b", "c:d")
	a, first := b.create(d)
	revoked, expired, forgotten := b.credential(a), b.credential(a), b.credential(a)
	now := time.Now().UTC().Truncate(time.Microsecond)
	revoked.RevokedAt, expired.ExpiresAt, forgotten.ExpiresAt = b.now(), now.Add(-time.Hour), now.Add(-credential.Forgotten-time.Hour)
	b.add(a, revoked)
	b.add(a, expired)
	b.add(a, forgotten)
	bystander, _ := b.create(b.draft())
	b.add(bystander, b.credential(bystander))
	want := credential.Holder{AgentID: a.ID, OrganizationID: b.org, AgentType: "reader", Status: "suspended", Capabilities: a.Capabilities}
	b.writesNothing("reading a holder", func() {
		h, live, err := b.store.Holder(b.Context(), b.org, a.ID)
		b.must("reading a holder", err)
		wantSame(b, "the holder", h, want)
		slices.SortFunc(live, func(x, y credential.Credential) int { return x.CreatedAt.Compare(y.CreatedAt) })
		wantSame(b, "the live credentials", live, []credential.Credential{first, expired})
	})
	b.move(a, agent.Archived, audit.AgentArchived)
	h, live, err := b.store.Holder(b.Context(), b.org, a.ID)
	b.must("reading an archived holder", err)
	want.Status, want.Ended = "archived", true
	wantSame(b, "the archived holder", h, want)
	if len(live) != 0 {
		b.Errorf("an archived agent has live credentials: %+v", live)
	}
}

func holderOfAnother(b *bench) {
	a, _ := b.create(b.draft())
	for name, org := range map[string]uuid.UUID{"another organization": b.organization("globex", nil).ID, "an unknown organization": uuid.New()} {
		_, _, err := b.store.Holder(b.Context(), org, a.ID)
		b.wantFault(name, err, fault.CodeAgentNotFound)
	}
	_, _, err := b.store.Holder(b.Context(), b.org, uuid.New())
	b.wantFault("an unknown agent", err, fault.CodeAgentNotFound)
}
