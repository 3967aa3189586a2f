package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

func agentListTests() []test {
	return []test{
		{"every filter alone and combined", agentFilters},
		{"a list stays stable while agents are added", agentListStable},
		{"an empty list is one empty page", func(b *bench) {
			for _, f := range []agent.Filter{{}, {Capability: "a:b"}, {Status: agent.Active}} {
				if got := b.agents(b.org, f, 1); len(got) != 0 {
					b.Errorf("%+v lists %+v", f, got)
				}
			}
		}},
	}
}

// population makes agents that differ in everything a filter asks for, three to
// each moment.
func (b *bench) population(n int) []agent.Agent {
	b.Helper()
	base := b.now()
	pick := func(i int, from ...string) string { return from[i%len(from)] }
	var all []agent.Agent
	for i := range n {
		a := b.draft()
		a.CreatedAt = base.Add(time.Duration(i/3) * time.Microsecond)
		a.Type = pick(i, "reader", "writer")
		a.Owner = pick(i/2, "platform", "Équipe", "sales")
		a.DeploymentEnv = pick(i/3, "development", "staging", "production")
		a.Capabilities = scope.New(pick(i, "files:read", "mail:send", "files:read"), "common:use")
		a.Status = agent.Status(pick(i/4, "active", "suspended", "active", "revoked", "archived"))
		b.create(a)
		all = append(all, a)
	}
	// A neighbour alike in all but the organization must never be seen.
	neighbour := all[0]
	neighbour.ID, neighbour.OrganizationID = uuid.New(), b.organization("neighbour", nil).ID
	b.create(neighbour)
	slices.SortFunc(all, func(x, y agent.Agent) int { return newer(x.CreatedAt, x.ID, y.CreatedAt, y.ID) })
	return all
}

func matches(f agent.Filter, a agent.Agent) bool {
	return (f.Status == "" || a.Status == f.Status) && (f.Type == "" || a.Type == f.Type) && (f.Owner == "" || a.Owner == f.Owner) &&
		(f.DeploymentEnv == "" || a.DeploymentEnv == f.DeploymentEnv) && (f.Capability == "" || slices.Contains(a.Capabilities, f.Capability)) &&
		(f.Email == "" || a.Email == f.Email)
}

func agentFilters(b *bench) {
	all := b.population(40)
	for _, like := range []agent.Agent{all[0], all[17], {
		Status: "none", Type: "none", Owner: "none", DeploymentEnv: "none", Capabilities: scope.New("none:none"), Email: "none",
	}} {
		for mask := range 1 << 6 {
			var f agent.Filter
			for bit, set := range []func(){
				func() { f.Status = like.Status },
				func() { f.Type = like.Type },
				func() { f.Owner = like.Owner },
				func() { f.DeploymentEnv = like.DeploymentEnv },
				func() { f.Capability = like.Capabilities[len(like.Capabilities)-1] },
				func() { f.Email = like.Email },
			} {
				if mask>>bit&1 == 1 {
					set()
				}
			}
			var want []string
			for _, a := range all {
				if matches(f, a) {
					want = append(want, a.Email)
				}
			}
			for _, limit := range []int{1, 3, len(want), page.MaxLimit} {
				wantSame(b, fmt.Sprintf("%+v in pages of %d", f, limit), emails(b.agents(b.org, f, max(limit, 1))), want)
			}
		}
	}
	got := b.agents(b.org, agent.Filter{}, 7)
	for i, want := range all {
		b.wantSameAgent("an agent in a list", got[i], want)
	}
}

func emails(all []agent.Agent) []string {
	var names []string
	for _, a := range all {
		names = append(names, a.Email)
	}
	return names
}

func agentListStable(b *bench) {
	there := b.population(18)
	oldest := there[len(there)-1].CreatedAt
	for _, f := range []agent.Filter{{}, {Capability: "common:use"}, {Owner: "platform"}, {Status: agent.Active, Type: "reader"}} {
		there = b.agents(b.org, agent.Filter{}, page.MaxLimit)
		seen := map[uuid.UUID]int{}
		walk(b, 2, func(q page.Query) (page.Page[agent.Agent], error) {
			p, err := b.store.Agents(b.Context(), b.org, f, q)
			for _, a := range p.Items {
				seen[a.ID]++
			}
			// What is added is newer than everything, as old as something read, or
			// among what is still to come.
			for _, at := range []time.Time{b.now(), there[0].CreatedAt, oldest} {
				a := b.draft()
				a.CreatedAt, a.Capabilities = at, scope.New("common:use")
				if at.Equal(oldest) && len(seen) > 4 {
					continue // or the list would never end
				}
				b.create(a)
			}
			return p, err
		})
		for id, n := range seen {
			if n != 1 {
				b.Errorf("%+v: the agent %s is listed %d times", f, id, n)
			}
		}
		for _, a := range there {
			if matches(f, a) && seen[a.ID] == 0 {
				b.Errorf("%+v: the agent %s was there from the start and is not listed", f, a.ID)
			}
		}
	}
}
