package storetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
)

// bench is one test with its own database, tenant and clock.
type bench struct {
	*testing.T
	store *store.Store
	org   uuid.UUID
	clock time.Time
	made  int
}

func newBench(t *testing.T, s *store.Store) *bench {
	t.Helper()
	b := &bench{T: t, store: s, clock: time.Date(2026, 2, 28, 23, 59, 59, 123_456_000, time.UTC)}
	b.org = b.organization("acme", nil).ID
	return b
}

// now gives a later time with every call, in whole microseconds.
func (b *bench) now() time.Time {
	b.clock = b.clock.Add(1001 * time.Microsecond)
	return b.clock
}

func (b *bench) must(doing string, err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", doing, err)
	}
}

func (b *bench) wantFault(doing string, err error, code fault.Code) {
	b.Helper()
	if !fault.Is(err, code) {
		b.Errorf("%s: got %v, want %s", doing, err, code)
	}
}

// event makes an event about an agent, or about none.
func (b *bench) event(action audit.Action, organization, agentID uuid.UUID) audit.Event {
	return audit.System("suite").Event(b.now(), organization, action, audit.Target{Type: audit.TypeAgent, ID: agentID.String()}).
		About(agentID).With(audit.Details{}.String("note", `"ünï" \ ☃`))
}

func (b *bench) organization(name string, maxAgents *int64) organization.Organization {
	b.Helper()
	now := b.now()
	o := organization.Organization{ID: uuid.New(), Name: name, DisplayName: "The " + name, MaxAgents: maxAgents, CreatedAt: now, UpdatedAt: now, Revision: 1}
	b.must("creating an organization", b.store.CreateOrganization(b.Context(), o, b.event(audit.OrganizationCreated, o.ID, uuid.Nil)))
	return o
}

// draft makes an agent of the bench's organization without storing it.
func (b *bench) draft() agent.Agent {
	b.made++
	now := b.now()
	return agent.Agent{
		ID: uuid.New(), OrganizationID: b.org, Email: fmt.Sprintf("agent-%03d@example.com", b.made), Type: "reader", Version: "v1.0.0",
		Capabilities: scope.New("files:read"), Owner: "platform", DeploymentEnv: "production", Status: agent.Active,
		Metadata: json.RawMessage("{}"), CreatedAt: now, UpdatedAt: now, Revision: 1,
	}
}

// credential makes a credential of the agent without storing it.
func (b *bench) credential(a agent.Agent) credential.Credential {
	b.made++
	return credential.Credential{
		ID: uuid.New(), AgentID: a.ID, OrganizationID: a.OrganizationID, KeyID: fmt.Sprintf("key-%d-%s", b.made, uuid.NewString()), Label: "first",
		Verifier: credential.Verifier{Fingerprint: []byte{0, 1, 0xff}, FingerprintKeyID: "fk1"}, CreatedAt: b.now(), Revision: 1,
	}
}

// create stores the agent with one credential.
func (b *bench) create(a agent.Agent) (agent.Agent, credential.Credential) {
	b.Helper()
	c := b.credential(a)
	b.must("creating an agent", b.store.CreateAgent(b.Context(), a, c, b.event(audit.AgentCreated, a.OrganizationID, a.ID), b.event(audit.CredentialCreated, a.OrganizationID, a.ID)))
	return a, c
}

// add gives the agent one more credential.
func (b *bench) add(a agent.Agent, c credential.Credential) credential.Credential {
	b.Helper()
	e := b.event(audit.CredentialCreated, a.OrganizationID, a.ID)
	b.must("adding a credential", b.store.ChangeCredentials(b.Context(), a.OrganizationID, a.ID,
		func(credential.Holder, []credential.Credential) ([]credential.Credential, audit.Event, error) {
			return []credential.Credential{c}, e, nil
		}))
	return c
}

// move gives the agent another status.
func (b *bench) move(a agent.Agent, to agent.Status, action audit.Action) agent.Agent {
	b.Helper()
	e := b.event(action, a.OrganizationID, a.ID)
	moved, err := b.store.UpdateAgent(b.Context(), a.OrganizationID, a.ID, func(a *agent.Agent) (audit.Event, error) {
		a.Status, a.UpdatedAt, a.TokensValidAfter = to, e.Time, e.Time
		return e, nil
	})
	b.must("moving an agent", err)
	return moved
}

func (b *bench) agent(a agent.Agent) agent.Agent {
	b.Helper()
	got, err := b.store.Agent(b.Context(), a.OrganizationID, a.ID)
	b.must("reading an agent", err)
	return got
}

func (b *bench) stored(c credential.Credential) credential.Credential {
	b.Helper()
	got, err := b.store.Credential(b.Context(), c.OrganizationID, c.AgentID, c.ID)
	b.must("reading a credential", err)
	return got
}

func (b *bench) counter() int64 {
	b.Helper()
	n, err := b.store.Counter(b.Context())
	b.must("reading the counter", err)
	return n
}

// log gives all events of all organizations in the order of the log.
func (b *bench) log() []audit.Event {
	b.Helper()
	events := b.snapshot().Events
	slices.SortFunc(events, func(x, y audit.Event) int { return int(x.Sequence - y.Sequence) })
	return events
}

// wantNext checks that nothing but these events follows the log as it was.
func (b *bench) wantNext(before []audit.Event, want ...audit.Event) {
	b.Helper()
	after := b.log()
	if len(after) != len(before)+len(want) {
		b.Fatalf("%d events were written, want %d", len(after)-len(before), len(want))
	}
	for i, w := range want {
		got := after[len(before)+i]
		if !bytes.Equal(got.Encode(), w.Encode()) {
			b.Errorf("event %d reads\n%s, want\n%s", i, got.Encode(), w.Encode())
		}
		if at := before[len(before)-1].Sequence + int64(i) + 1; got.Sequence != at {
			b.Errorf("event %d has the sequence %d, want %d", i, got.Sequence, at)
		}
	}
}

// wantDense checks that the log counts from 1 without a gap.
func (b *bench) wantDense() []audit.Event {
	b.Helper()
	events := b.log()
	for i, e := range events {
		if e.Sequence != int64(i)+1 {
			b.Fatalf("place %d of the log has the sequence %d", i+1, e.Sequence)
		}
	}
	return events
}

// snapshot is everything the database can be seen to hold.
type snapshot struct {
	Counter       int64
	Organizations []organization.Organization
	Agents        []agent.Agent
	Credentials   []credential.Credential
	Events        []audit.Event
	Keys          []keys.Stored
}

func (b *bench) snapshot() snapshot {
	b.Helper()
	ctx := b.Context()
	s := snapshot{Counter: b.counter()}
	var err error
	s.Keys, err = b.store.SigningKeys(ctx)
	b.must("reading the keys", err)
	s.Organizations = walk(b, page.MaxLimit, func(q page.Query) (page.Page[organization.Organization], error) { return b.store.Organizations(ctx, q) })
	for _, o := range s.Organizations {
		s.Agents = append(s.Agents, b.agents(o.ID, agent.Filter{}, page.MaxLimit)...)
		s.Events = append(s.Events, b.events(o.ID, audit.Filter{}, page.MaxLimit)...)
	}
	for _, a := range s.Agents {
		s.Credentials = append(s.Credentials, walk(b, page.MaxLimit, func(q page.Query) (page.Page[credential.Credential], error) {
			return b.store.Credentials(ctx, a.OrganizationID, a.ID, q)
		})...)
	}
	return s
}

// writesNothing checks that the database is the same after do.
func (b *bench) writesNothing(what string, do func()) {
	b.Helper()
	before := b.snapshot()
	do()
	if after := b.snapshot(); !reflect.DeepEqual(before, after) {
		b.Errorf("%s wrote something: before\n%+v\nafter\n%+v", what, before, after)
	}
}

func (b *bench) agents(organization uuid.UUID, f agent.Filter, limit int) []agent.Agent {
	b.Helper()
	return walk(b, limit, func(q page.Query) (page.Page[agent.Agent], error) {
		return b.store.Agents(b.Context(), organization, f, q)
	})
}

func (b *bench) events(organization uuid.UUID, f audit.Filter, limit int) []audit.Event {
	b.Helper()
	return walk(b, limit, func(q page.Query) (page.Page[audit.Event], error) {
		return b.store.Events(b.Context(), organization, f, q)
	})
}

// walk reads a list from its first page to its last.
func walk[T any](b *bench, limit int, list func(page.Query) (page.Page[T], error)) []T {
	b.Helper()
	var all []T
	for q := (page.Query{Limit: limit}); ; {
		p, err := list(q)
		b.must("listing", err)
		if len(p.Items) > limit || p.Next != "" && len(p.Items) < limit || !q.After.IsZero() && len(p.Items) == 0 {
			b.Fatalf("a page of %d holds %d items, and its next is %q", limit, len(p.Items), p.Next)
		}
		all = append(all, p.Items...)
		if p.Next == "" {
			return all
		}
		after, err := page.ParseCursor(p.Next)
		b.must("reading a cursor", err)
		if after == q.After {
			b.Fatalf("the cursor %q stays where it was", p.Next)
		}
		q.After = after
	}
}

// wantSame compares two values of one type.
func wantSame[T any](b *bench, what string, got, want T) {
	b.Helper()
	if !reflect.DeepEqual(got, want) {
		b.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// wantSameAgent compares agents; metadata may come back in another layout.
func (b *bench) wantSameAgent(what string, got, want agent.Agent) {
	b.Helper()
	value := func(raw json.RawMessage) (v any) {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		b.must("decoding metadata", d.Decode(&v))
		return v
	}
	wantSame(b, what+", metadata", value(got.Metadata), value(want.Metadata))
	got.Metadata, want.Metadata = nil, nil
	wantSame(b, what, got, want)
}

// together calls do n times at once and gives the errors.
func together(n int, do func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = do(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}
