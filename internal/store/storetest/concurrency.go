package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

const (
	writers = 8
	rounds  = 10
)

func concurrencyTests() []test {
	return []test{
		{"no update of an agent is lost", updatesAtOnce},
		{"the maximum of agents holds", createsAtOnce},
		{"an email is taken once", emailsAtOnce},
		{"the number of credentials is decided one by one", credentialsAtOnce},
		{"the first signing key is made once", keysAtOnce},
		{"sequences have no gap", recordsAtOnce},
		{"records and changes of one agent do not block each other", recordsAndChangesAtOnce},
		{"one revocation of many is written", revocationsAtOnce},
		{"a change gets through while records never pause", changesAmongRecords},
	}
}

// plenty makes an event for every writer and round beforehand, as a bench's
// clock is for one goroutine.
func (b *bench) plenty(action audit.Action, about uuid.UUID) (events [writers][rounds]audit.Event) {
	for i := range writers {
		for k := range rounds {
			events[i][k] = b.event(action, b.org, about)
		}
	}
	return events
}

func (b *bench) mustAll(doing string, errs []error) {
	b.Helper()
	for i, err := range errs {
		b.must(fmt.Sprintf("%s, writer %d", doing, i), err)
	}
}

// wantRefused checks that all but n writers were refused with the code.
func (b *bench) wantRefused(errs []error, n int, code fault.Code) {
	b.Helper()
	for _, err := range errs {
		if err == nil {
			n--
		} else {
			b.wantFault("a writer", err, code)
		}
	}
	if n != 0 {
		b.Errorf("%d more writers should have succeeded", n)
	}
}

func updatesAtOnce(b *bench) {
	a, c := b.create(b.draft())
	before, events := b.log(), b.plenty(audit.AgentUpdated, a.ID)
	b.mustAll("updating", together(writers, func(i int) error {
		for k := range rounds {
			if _, err := b.store.UpdateAgent(b.Context(), b.org, a.ID, func(a *agent.Agent) (audit.Event, error) {
				a.Owner += "x"
				return events[i][k], nil
			}); err != nil {
				return err
			}
		}
		return nil
	}))
	got := b.agent(a)
	if want := a.Revision + writers*rounds; got.Revision != want {
		b.Errorf("the revision is %d, want %d", got.Revision, want)
	}
	if got, want := len(got.Owner)-len(a.Owner), writers*rounds; got != want {
		b.Errorf("%d updates are seen, want %d", got, want)
	}
	if got, want := len(b.wantDense())-len(before), writers*rounds; got != want {
		b.Errorf("%d events were written, want %d", got, want)
	}
	wantSame(b, "the credential", b.stored(c), c)
}

func createsAtOnce(b *bench) {
	org := b.organization("small", new(int64(3))).ID
	var drafts [writers]agent.Agent
	var credentials [writers]credential.Credential
	var events [writers]audit.Event
	for i := range writers {
		drafts[i] = b.draft()
		drafts[i].OrganizationID = org
		credentials[i], events[i] = b.credential(drafts[i]), b.event(audit.AgentCreated, org, drafts[i].ID)
	}
	b.wantRefused(together(writers, func(i int) error {
		return b.store.CreateAgent(b.Context(), drafts[i], credentials[i], events[i])
	}), 3, fault.CodeConflict)
	if got := b.agents(org, agent.Filter{}, 100); len(got) != 3 {
		b.Errorf("%d agents are there, want 3", len(got))
	}
	b.wantDense()
}

func emailsAtOnce(b *bench) {
	var drafts [writers]agent.Agent
	var credentials [writers]credential.Credential
	events := b.plenty(audit.AgentCreated, uuid.Nil)
	for i := range writers {
		drafts[i] = b.draft()
		drafts[i].Email = "one@example.com"
		credentials[i] = b.credential(drafts[i])
	}
	b.wantRefused(together(writers, func(i int) error {
		return b.store.CreateAgent(b.Context(), drafts[i], credentials[i], events[i][0])
	}), 1, fault.CodeAgentExists)
	b.wantDense()
}

func credentialsAtOnce(b *bench) {
	const most = 5
	a, _ := b.create(b.draft())
	var fresh [writers]credential.Credential
	for i := range writers {
		fresh[i] = b.credential(a)
	}
	events := b.plenty(audit.CredentialCreated, a.ID)
	full := fault.New(fault.Conflict, fault.CodeCredential, "full")
	b.wantRefused(together(writers, func(i int) error {
		return b.store.ChangeCredentials(b.Context(), b.org, a.ID,
			func(_ credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error) {
				if len(live) >= most {
					return nil, audit.Event{}, full
				}
				return fresh[i : i+1], events[i][0], nil
			})
	}), most-1, fault.CodeCredential)
	all, err := b.store.Credentials(b.Context(), b.org, a.ID, page.Query{Limit: page.MaxLimit})
	if err != nil || len(all.Items) != most {
		b.Errorf("%d credentials are there (%v), want %d", len(all.Items), err, most)
	}
}

func keysAtOnce(b *bench) {
	var made [writers]keys.Stored
	var events [writers]audit.Event
	for i := range writers {
		made[i], events[i] = b.key(fmt.Sprintf("k%d", i)), b.event(audit.KeyRotated, organization.DefaultID(), uuid.Nil)
	}
	n := 0
	for i, err := range together(writers, func(i int) error {
		return b.store.ChangeSigningKeys(b.Context(), func(current []keys.Stored) ([]keys.Stored, audit.Event, error) {
			if len(current) > 0 {
				return nil, audit.Event{}, keys.ErrUnchanged
			}
			return made[i : i+1], events[i], nil
		})
	}) {
		if err == nil {
			n++
			b.wantKeys(made[i])
		}
	}
	if n != 1 {
		b.Errorf("%d first keys were made", n)
	}
}

func recordsAtOnce(b *bench) {
	_, c := b.create(b.draft())
	basis := b.basis(c)
	first, second, revoked := b.plenty(audit.TokenIssued, c.AgentID), b.plenty(audit.TokenDenied, c.AgentID), b.plenty(audit.TokenRevoked, c.AgentID)
	expires, before := b.now(), b.log()
	b.mustAll("appending", together(writers, func(i int) error {
		for k := range rounds {
			done, err := b.store.AppendRecords(b.Context(), []audit.Record{{Event: first[i][k], Basis: basis}, {Event: second[i][k]}})
			if err != nil {
				return err
			}
			if len(done.Stale) > 0 {
				return audit.ErrStale // a revocation raises the counter and changes no revision
			}
			if err := b.store.RevokeToken(b.Context(), uuid.New(), expires, revoked[i][k]); err != nil {
				return err
			}
		}
		return nil
	}))
	log := b.wantDense()
	if got := len(log) - len(before); got != 3*writers*rounds {
		b.Errorf("%d events were written, want %d", got, 3*writers*rounds)
	}
	place := map[uuid.UUID]int{}
	for i, e := range log {
		place[e.ID] = i
	}
	for i := range writers {
		for k := range rounds {
			if place[second[i][k].ID] != place[first[i][k].ID]+1 {
				b.Errorf("batch %d of writer %d is torn apart", k, i)
			}
			if place[revoked[i][k].ID] <= place[second[i][k].ID] {
				b.Errorf("what writer %d did later in round %d stands earlier", i, k)
			}
		}
	}
}

// recordsAndChangesAtOnce takes the same rows in both ways: a database that
// locks rows must not come to a deadlock over them.
func recordsAndChangesAtOnce(b *bench) {
	a, c := b.create(b.draft())
	basis := b.basis(c)
	changes, uses := b.plenty(audit.AgentUpdated, a.ID), b.plenty(audit.TokenIssued, a.ID)
	before := b.log()
	var written [writers]int
	b.mustAll("writing", together(writers, func(i int) error {
		for k := range rounds {
			if i%2 == 0 {
				if _, err := b.store.UpdateAgent(b.Context(), b.org, a.ID, func(a *agent.Agent) (audit.Event, error) {
					a.Owner += "x"
					return changes[i][k], nil
				}); err != nil {
					return err
				}
				written[i]++
				continue
			}
			counter, err := b.store.Counter(b.Context())
			if err != nil {
				return err
			}
			e, err := b.store.EntryByCredential(b.Context(), c.ID)
			if err != nil {
				return err
			}
			fresh := *basis
			fresh.Counter, fresh.AgentRevision, fresh.CredentialRevision = counter, e.Agent.Revision, e.Credential.Revision
			done, err := b.store.AppendRecords(b.Context(), []audit.Record{{Event: uses[i][k], Basis: &fresh}})
			if err != nil {
				return err
			}
			if !done.Stale[0] {
				written[i]++
			}
		}
		return nil
	}))
	want := 0
	for _, n := range written {
		want += n
	}
	log := b.wantDense()
	if got := len(log) - len(before); got != want {
		b.Errorf("%d events were written, want %d", got, want)
	}
	if got := b.agent(a).Revision; got != a.Revision+writers/2*rounds {
		b.Errorf("the revision is %d, want %d", got, a.Revision+writers/2*rounds)
	}
}

func revocationsAtOnce(b *bench) {
	id, expires := uuid.New(), b.now()
	before, events := b.log(), b.plenty(audit.TokenRevoked, uuid.Nil)
	b.mustAll("revoking", together(writers, func(i int) error {
		return b.store.RevokeToken(b.Context(), id, expires, events[i][0])
	}))
	if got := len(b.wantDense()) - len(before); got != 1 {
		b.Errorf("%d events were written, want 1", got)
	}
	if !slices.ContainsFunc(b.log(), func(e audit.Event) bool { return e.Action == audit.TokenRevoked }) {
		b.Error("the revocation is not in the log")
	}
}

// changesAmongRecords plays several nodes under load: if their batches could share
// what a change must have for itself, it would never get it, and nobody could
// revoke anything.
func changesAmongRecords(b *bench) {
	a, c := b.create(b.draft())
	basis, events, changes := b.basis(c), b.plenty(audit.TokenIssued, a.ID), b.plenty(audit.AgentUpdated, a.ID)
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	var changed atomic.Bool
	b.mustAll("writing", together(writers, func(i int) error {
		if i == 0 {
			defer changed.Store(true)
			for k := range rounds {
				if _, err := b.store.UpdateAgent(ctx, b.org, a.ID, func(a *agent.Agent) (audit.Event, error) {
					a.Owner += "x"
					return changes[i][k], nil
				}); err != nil {
					return err
				}
			}
			return nil
		}
		for k := 0; !changed.Load(); k++ {
			e := events[i][k%rounds]
			e.ID = audit.NewID(e.Time)
			if _, err := b.store.AppendRecords(ctx, []audit.Record{{Event: e, Basis: basis}}); err != nil {
				return err
			}
		}
		return nil
	}))
	b.wantDense()
}
