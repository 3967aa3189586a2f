package agent_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

func TestTheLifecycleAllowsTheseTransitionsAlone(t *testing.T) { // (R1)
	action := map[agent.Status]audit.Action{
		agent.Active: audit.AgentReactivated, agent.Suspended: audit.AgentSuspended,
		agent.Revoked: audit.AgentRevoked, agent.Archived: audit.AgentArchived,
	}
	const (
		forbidden = iota
		allowed
		nothingToDo
	)
	for _, c := range []struct {
		from, to agent.Status
		want     int
	}{
		{agent.Active, agent.Active, forbidden},
		{agent.Active, agent.Suspended, allowed},
		{agent.Active, agent.Revoked, allowed},
		{agent.Active, agent.Archived, allowed},
		{agent.Suspended, agent.Active, allowed},
		{agent.Suspended, agent.Suspended, forbidden},
		{agent.Suspended, agent.Revoked, allowed},
		{agent.Suspended, agent.Archived, allowed},
		{agent.Revoked, agent.Active, forbidden},
		{agent.Revoked, agent.Suspended, forbidden},
		{agent.Revoked, agent.Revoked, forbidden},
		{agent.Revoked, agent.Archived, allowed},
		{agent.Archived, agent.Active, forbidden},
		{agent.Archived, agent.Suspended, forbidden},
		{agent.Archived, agent.Revoked, forbidden},
		{agent.Archived, agent.Archived, nothingToDo},
	} {
		t.Run(string(c.from)+" to "+string(c.to), func(t *testing.T) {
			w := newWorld(t)
			id := w.withStatus(c.from)
			before, events := w.get(id), len(w.store.events)
			w.at = w.at.Add(time.Hour)
			err := w.move(id, c.to)
			after := w.get(id)
			if c.want != allowed {
				if (c.want == forbidden) != fault.Is(err, fault.CodeConflict) || c.want == nothingToDo && err != nil {
					t.Errorf("got %v", err)
				}
				if after.Status != c.from || after.Revision != before.Revision || len(w.store.events) != events {
					t.Errorf("the agent is %s at revision %d and %d events were written", after.Status, after.Revision, len(w.store.events)-events)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if after.Status != c.to || !after.UpdatedAt.Equal(w.micros()) || after.Revision != before.Revision+1 {
				t.Errorf("the agent is %s, updated at %v, revision %d", after.Status, after.UpdatedAt, after.Revision)
			}
			e := w.store.events[len(w.store.events)-1]
			if len(w.store.events) != events+1 || e.Action != action[c.to] || e.AgentID != id || e.Actor != w.by.Actor {
				t.Errorf("%d events, the last %+v", len(w.store.events)-events, e)
			}
			if d := w.lastDetails(); d["from"] != string(c.from) || d["to"] != string(c.to) {
				t.Errorf("the event tells %v", d)
			}
		})
	}
}

func TestOnlyRevokedAndArchivedAreTheEnd(t *testing.T) {
	for status, want := range map[agent.Status]bool{
		agent.Active: false, agent.Suspended: false, agent.Revoked: true, agent.Archived: true,
	} {
		if status.Ended() != want {
			t.Errorf("%s has ended: %v, want %v", status, !want, want)
		}
	}
}

func TestStoppingAnAgentEndsEveryTokenItGot(t *testing.T) {
	for _, to := range []agent.Status{agent.Suspended, agent.Revoked, agent.Archived} {
		for _, c := range []struct {
			name string
			auth time.Duration // when it last authenticated, from now; 1 for never
			kill time.Duration // when its tokens end, from now
		}{
			{"never authenticated", 1, 0},
			{"a token an hour ago", -time.Hour, 0},
			{"a token just now", 0, time.Microsecond},
			{"a token of a node whose clock is ahead", 3 * time.Second, 3*time.Second + time.Microsecond},
		} {
			t.Run(string(to)+", "+c.name, func(t *testing.T) {
				w := newWorld(t)
				id := w.withStatus(agent.Active)
				now := w.micros()
				if c.auth != 1 {
					w.store.agents[0].LastAuthAt = now.Add(c.auth)
				}
				if err := w.move(id, to); err != nil {
					t.Fatal(err)
				}
				if got := w.get(id).TokensValidAfter; !got.Equal(now.Add(c.kill)) {
					t.Errorf("tokens are valid from %v after now, want %v", got.Sub(now), c.kill)
				}
			})
		}
	}
}

func TestAReactivatedAgentsOldTokensStayDead(t *testing.T) {
	w := newWorld(t)
	id := w.withStatus(agent.Suspended)
	killed := w.get(id).TokensValidAfter
	w.at = w.at.Add(time.Hour)
	if err := w.move(id, agent.Active); err != nil {
		t.Fatal(err)
	}
	if got := w.get(id).TokensValidAfter; killed.IsZero() || !got.Equal(killed) {
		t.Errorf("tokens are valid after %v, want %v as when it was suspended", got, killed)
	}
}

func TestAClockThatWentBackRevivesNoToken(t *testing.T) {
	w := newWorld(t)
	id := w.withStatus(agent.Suspended)
	killed := w.get(id).TokensValidAfter
	w.at = w.at.Add(-time.Hour)
	if err := w.move(id, agent.Revoked); err != nil {
		t.Fatal(err)
	}
	if got := w.get(id).TokensValidAfter; got.Before(killed) {
		t.Errorf("tokens are valid after %v, and were after %v", got, killed)
	}
}

func TestAnAgentThatChangedSinceItWasReadIsNotMoved(t *testing.T) {
	for _, to := range []agent.Status{agent.Active, agent.Suspended, agent.Revoked, agent.Archived} {
		from := agent.Active
		if to == agent.Active {
			from = agent.Suspended
		}
		t.Run(string(to), func(t *testing.T) {
			w := newWorld(t)
			id := w.withStatus(from)
			before := w.get(id)
			if err := w.move(id, to, 7, 8); !fault.Is(err, fault.CodePreconditionFailed) || w.get(id).Status != from {
				t.Errorf("at another revision: %v, the agent is %s", err, w.get(id).Status)
			}
			if err := w.move(id, to, 7, before.Revision); err != nil || w.get(id).Status != to {
				t.Errorf("at the revision that was read: %v, the agent is %s", err, w.get(id).Status)
			}
		})
	}
}

func TestAReasonIsRecordedAndBounded(t *testing.T) { // (R4)
	for _, c := range []struct {
		name, reason string
		ok           bool
	}{
		{"none", "", true},
		{"a sentence", "key leaked in CI, ticket 42", true},
		{"512 characters", strings.Repeat("é", 512), true},
		{"513 characters", strings.Repeat("é", 513), false},
		{"a line end", "a\nb", false},
		{"an outer space", "a ", false},
		{"not UTF-8", "a\xff", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			id := w.withStatus(agent.Active)
			_, err := w.service.Suspend(t.Context(), w.by, w.org, id, c.reason)
			if !c.ok {
				if !fault.Is(err, fault.CodeValidation) || fault.As(err).Fields[0].Field != "reason" || w.get(id).Status != agent.Active {
					t.Errorf("got %v, the agent is %s", err, w.get(id).Status)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := w.store.events[len(w.store.events)-1].Reason; got != c.reason {
				t.Errorf("the reason %q is recorded", got)
			}
		})
	}
}

func TestAnotherOrganizationsAgentIsNotFound(t *testing.T) { // (R1)
	w := newWorld(t)
	id := w.withStatus(agent.Active)
	w.org = uuid.New()
	for _, to := range []agent.Status{agent.Active, agent.Suspended, agent.Revoked, agent.Archived} {
		if err := w.move(id, to); !fault.Is(err, fault.CodeAgentNotFound) {
			t.Errorf("making it %s: %v", to, err)
		}
	}
	if _, err := w.update(id, agent.Patch{}); !fault.Is(err, fault.CodeAgentNotFound) {
		t.Errorf("changing it: %v", err)
	}
	if _, err := w.service.Get(t.Context(), w.org, id); !fault.Is(err, fault.CodeAgentNotFound) {
		t.Errorf("reading it: %v", err)
	}
}
