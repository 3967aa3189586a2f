package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// memory is an agent.Store of one process.
type memory struct {
	agents      []agent.Agent
	credentials []credential.Credential
	events      []audit.Event
	filter      agent.Filter

	full      int          // how many agents there may be, 0 for any number
	meanwhile *agent.Agent // what somebody else stores between reading and writing
	broken    error
}

func (m *memory) CreateAgent(_ context.Context, a agent.Agent, c credential.Credential, events ...audit.Event) error {
	for _, had := range m.agents {
		if had.OrganizationID == a.OrganizationID && had.Email == a.Email {
			return fault.New(fault.Conflict, fault.CodeAgentExists, "the email is taken")
		}
	}
	m.agents = append(m.agents, a)
	m.credentials = append(m.credentials, c)
	m.events = append(m.events, events...)
	return nil
}

func (m *memory) CreateAgents(ctx context.Context, _ uuid.UUID, all []agent.New) ([]error, error) {
	errs := make([]error, len(all))
	for i, one := range all {
		var c credential.Credential
		if one.Credential != nil {
			c = *one.Credential
		}
		if m.full > 0 && len(m.agents) >= m.full {
			errs[i] = fault.New(fault.Conflict, fault.CodeConflict, "no room")
			continue
		}
		if m.meanwhile != nil { // somebody else is faster
			m.agents, m.meanwhile = append(m.agents, *m.meanwhile), nil
		}
		errs[i] = m.CreateAgent(ctx, one.Agent, c, one.Events...)
	}
	return errs, m.broken
}

func (m *memory) AgentsByEmail(_ context.Context, org uuid.UUID, emails []string) ([]agent.Agent, error) {
	var found []agent.Agent
	for _, a := range m.agents {
		if a.OrganizationID == org && slices.Contains(emails, a.Email) {
			found = append(found, a)
		}
	}
	return found, m.broken
}

func (m *memory) find(org, id uuid.UUID) (*agent.Agent, error) {
	for i := range m.agents {
		if m.agents[i].ID == id && m.agents[i].OrganizationID == org {
			return &m.agents[i], nil
		}
	}
	return nil, fault.New(fault.NotFound, fault.CodeAgentNotFound, "no such agent")
}

func (m *memory) Agent(_ context.Context, org, id uuid.UUID) (agent.Agent, error) {
	a, err := m.find(org, id)
	if err != nil {
		return agent.Agent{}, err
	}
	return *a, nil
}

func (m *memory) UpdateAgent(_ context.Context, org, id uuid.UUID, change func(*agent.Agent) (audit.Event, error)) (agent.Agent, error) {
	stored, err := m.find(org, id)
	if err != nil {
		return agent.Agent{}, err
	}
	a := *stored
	event, err := change(&a)
	if errors.Is(err, agent.ErrUnchanged) {
		return *stored, nil
	}
	if err != nil {
		return agent.Agent{}, err
	}
	a.Revision++
	*stored = a
	m.events = append(m.events, event)
	return a, nil
}

func (m *memory) Agents(_ context.Context, _ uuid.UUID, f agent.Filter, _ page.Query) (page.Page[agent.Agent], error) {
	m.filter = f
	found := slices.DeleteFunc(slices.Clone(m.agents), func(a agent.Agent) bool { return f.Email != "" && a.Email != f.Email })
	return page.Page[agent.Agent]{Items: found}, nil
}

// world is a registry and who calls it.
type world struct {
	*testing.T
	at      time.Time
	store   *memory
	service *agent.Service
	by      policy.Caller
	org     uuid.UUID
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root, err := keys.NewRoot(secret.New(strings.Repeat("root", 8)), secret.Value{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, at: time.Date(2026, 3, 1, 12, 0, 0, 123_456_789, time.UTC), store: &memory{}, org: uuid.New()}
	now := func() time.Time { return w.at }
	minter := credential.NewMinter(credential.NewHasher(root, credential.HMAC, now), now)
	w.service = agent.NewService(w.store, minter, maxTTL, now)
	w.by = policy.Caller{OrganizationID: w.org, Scopes: scope.New(scope.AgentsWrite), Origin: audit.System("test")}
	return w
}

func (w *world) micros() time.Time { return w.at.Truncate(time.Microsecond) }

func (w *world) create(d agent.Draft) agent.Agent {
	w.Helper()
	a, _, err := w.service.Create(w.Context(), w.by, w.org, d)
	if err != nil {
		w.Fatal(err)
	}
	return a
}

// withStatus makes an agent that has been brought to the status.
func (w *world) withStatus(s agent.Status) uuid.UUID {
	w.Helper()
	id := w.create(draft()).ID
	if s != agent.Active {
		if err := w.move(id, s); err != nil {
			w.Fatal(err)
		}
	}
	return id
}

func (w *world) move(id uuid.UUID, to agent.Status, ifRevision ...int64) error {
	var err error
	switch to {
	case agent.Active:
		_, err = w.service.Reactivate(w.Context(), w.by, w.org, id, "", ifRevision...)
	case agent.Suspended:
		_, err = w.service.Suspend(w.Context(), w.by, w.org, id, "", ifRevision...)
	case agent.Revoked:
		_, err = w.service.Revoke(w.Context(), w.by, w.org, id, "", ifRevision...)
	case agent.Archived:
		err = w.service.Archive(w.Context(), w.by, w.org, id, ifRevision...)
	}
	return err
}

func (w *world) get(id uuid.UUID) agent.Agent {
	w.Helper()
	a, err := w.service.Get(w.Context(), w.org, id)
	if err != nil {
		w.Fatal(err)
	}
	return a
}

func (w *world) update(id uuid.UUID, p agent.Patch) (agent.Agent, error) {
	return w.service.Update(w.Context(), w.by, w.org, id, p)
}

func (w *world) lastDetails() map[string]any {
	w.Helper()
	var details map[string]any
	if err := json.Unmarshal(w.store.events[len(w.store.events)-1].Details.JSON(), &details); err != nil {
		w.Fatal(err)
	}
	return details
}
