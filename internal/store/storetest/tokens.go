package storetest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
)

func counterTests() []test {
	return []test{
		{"every change of the registry raises it", counterRaised},
		{"a new agent does not raise it, as nothing can rest on it", func(b *bench) {
			before := b.counter()
			b.create(b.draft())
			if after := b.counter(); after != before {
				b.Errorf("the counter went from %d to %d", before, after)
			}
		}},
		{"records do not raise it", func(b *bench) {
			_, c := b.create(b.draft())
			before := b.counter()
			b.append([]audit.Record{{Event: b.event(audit.TokenIssued, b.org, c.AgentID), Basis: b.basis(c)}, {Event: b.event(audit.TokenDenied, b.org, uuid.Nil)}})
			if after := b.counter(); after != before {
				b.Errorf("the counter went from %d to %d", before, after)
			}
		}},
	}
}

func counterRaised(b *bench) {
	a, _ := b.create(b.draft())
	for _, change := range []struct {
		name string
		do   func()
	}{
		{"an agent is suspended", func() { b.move(a, agent.Suspended, audit.AgentSuspended) }},
		{"an agent is reactivated", func() { b.move(a, agent.Active, audit.AgentReactivated) }},
		{"a credential is added", func() { b.add(a, b.credential(a)) }},
		{"a credential is changed", func() {
			b.must("changing", b.store.ChangeCredentials(b.Context(), b.org, a.ID,
				func(_ credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error) {
					live[0].RevokedAt = b.now()
					return live[:1], b.event(audit.CredentialRevoked, b.org, a.ID), nil
				}))
		}},
		{"a token is revoked", func() {
			b.must("revoking", b.store.RevokeToken(b.Context(), uuid.New(), b.now(), b.event(audit.TokenRevoked, b.org, a.ID)))
		}},
		{"an agent is revoked", func() { b.move(a, agent.Revoked, audit.AgentRevoked) }},
		{"an agent is archived", func() { b.move(a, agent.Archived, audit.AgentArchived) }},
	} {
		before := b.counter()
		change.do()
		if after := b.counter(); after <= before {
			b.Errorf("the counter goes from %d to %d when %s", before, after, change.name)
		}
	}
}

func revocationTests() []test {
	return []test{
		{"revoking twice writes one event", revokedTwice},
		{"forgets the expired ones alone", revocationsForgotten},
	}
}

func (b *bench) wantRevoked(id uuid.UUID, want bool) {
	b.Helper()
	got, err := b.store.TokenRevoked(b.Context(), id)
	b.must("asking for a revocation", err)
	if got != want {
		b.Errorf("TokenRevoked gives %t, want %t", got, want)
	}
}

func revokedTwice(b *bench) {
	id, other, expires := uuid.New(), uuid.New(), b.now()
	b.wantRevoked(id, false)
	before, e := b.log(), b.event(audit.TokenRevoked, b.org, uuid.Nil)
	b.must("revoking", b.store.RevokeToken(b.Context(), id, expires, e))
	b.wantNext(before, e)
	b.wantRevoked(id, true)
	b.wantRevoked(other, false)
	b.writesNothing("a second revocation", func() {
		b.must("revoking again", b.store.RevokeToken(b.Context(), id, expires, b.event(audit.TokenRevoked, b.org, uuid.Nil)))
	})
	b.wantRevoked(id, true)
}

func revocationsForgotten(b *bench) {
	moment := b.now()
	expired, due, live := uuid.New(), uuid.New(), uuid.New()
	for id, at := range map[uuid.UUID]time.Time{expired: moment.Add(-time.Microsecond), due: moment, live: moment.Add(time.Hour)} {
		b.must("revoking", b.store.RevokeToken(b.Context(), id, at, b.event(audit.TokenRevoked, b.org, uuid.Nil)))
	}
	before := b.log()
	for _, want := range []int64{1, 0} {
		if n, err := b.store.ForgetRevocations(b.Context(), moment); err != nil || n != want {
			b.Errorf("ForgetRevocations gives %d, %v, want %d", n, err, want)
		}
	}
	b.wantRevoked(expired, false)
	b.wantRevoked(due, true)
	b.wantRevoked(live, true)
	b.wantNext(before)
}

func keyTests() []test {
	return []test{
		{"keys are written, changed and listed oldest first", keysChanged},
		{"unchanged or refused keys write nothing", keysRefused},
		{"a key is sealed anew and nothing else", keyResealed},
	}
}

func (b *bench) key(kid string) keys.Stored {
	now := b.now()
	return keys.Stored{
		KID: kid, Alg: keys.ES256, Sealed: []byte("sealed\x00\xff" + kid), PublicJWK: []byte(`{"kty":"EC","kid":"` + kid + `"}`),
		CreatedAt: now, ActivatesAt: now.Add(time.Hour + time.Microsecond),
	}
}

// keyring writes keys and wants what was there before to be shown to the change.
func (b *bench) keyring(shown []keys.Stored, write ...keys.Stored) {
	b.Helper()
	before, e := b.log(), b.event(audit.KeyRotated, organization.DefaultID(), uuid.Nil)
	b.must("changing the keys", b.store.ChangeSigningKeys(b.Context(), func(current []keys.Stored) ([]keys.Stored, audit.Event, error) {
		wantSame(b, "the keys shown", current, shown)
		return write, e, nil
	}))
	b.wantNext(before, e)
}

func (b *bench) wantKeys(want ...keys.Stored) {
	b.Helper()
	got, err := b.store.SigningKeys(b.Context())
	b.must("reading the keys", err)
	wantSame(b, "the keys", got, want)
}

func keysChanged(b *bench) {
	b.wantKeys()
	first, second, third := b.key("zz"), b.key("mm"), b.key("aa")
	second.Alg, third.Alg = keys.EdDSA, keys.RS256
	b.keyring(nil, first)
	b.wantKeys(first)
	shown := first
	first.RetiresAt = b.now()
	b.keyring([]keys.Stored{shown}, third, second, first)
	b.wantKeys(first, second, third)
}

func keysRefused(b *bench) {
	k := b.key("k1")
	b.keyring(nil, k)
	for _, want := range []error{keys.ErrUnchanged, errChange} {
		b.writesNothing(want.Error(), func() {
			err := b.store.ChangeSigningKeys(b.Context(), func(current []keys.Stored) ([]keys.Stored, audit.Event, error) {
				current[0].RetiresAt = b.now()
				return append(current, b.key("k2")), b.event(audit.KeyRotated, organization.DefaultID(), uuid.Nil), want
			})
			if !errors.Is(err, want) {
				b.Errorf("ChangeSigningKeys gives %v, want %v", err, want)
			}
		})
	}
}

func keyResealed(b *bench) {
	first, second := b.key("k1"), b.key("k2")
	b.keyring(nil, first, second)
	before := b.log()
	first.Sealed = []byte("anew\x00")
	for range 2 {
		b.must("sealing anew", b.store.ResealSigningKey(b.Context(), first.KID, first.Sealed))
		b.wantKeys(first, second)
	}
	b.must("sealing an unknown key anew", b.store.ResealSigningKey(b.Context(), "unknown", []byte("x")))
	b.wantKeys(first, second)
	b.wantNext(before)
}

func entryTests() []test {
	return []test{
		{"agent and credential are read together", entryRead},
		{"no credential is ErrNoEntry", func(b *bench) {
			b.create(b.draft())
			if e, err := b.store.EntryByKeyID(b.Context(), "unknown"); !errors.Is(err, token.ErrNoEntry) {
				b.Errorf("EntryByKeyID gives %v, %v", e, err)
			}
			if e, err := b.store.EntryByCredential(b.Context(), uuid.New()); !errors.Is(err, token.ErrNoEntry) {
				b.Errorf("EntryByCredential gives %v, %v", e, err)
			}
		}},
		{"an entry carries the counter it was read at", entryCounter},
	}
}

func entryRead(b *bench) {
	d := b.draft()
	d.Owner, d.Capabilities, d.TokenTTL = "Équipe", scope.New("a:b", "c:d"), time.Hour
	a, first := b.create(d)
	second := b.credential(a)
	second.ExpiresAt, second.RotatedFrom, second.Verifier.Bcrypt = b.now(), first.ID, []byte("$2a$")
	b.add(a, second)
	b.create(b.draft())
	check := func() {
		b.Helper()
		for _, c := range []credential.Credential{first, second} {
			byKey, err := b.store.EntryByKeyID(b.Context(), c.KeyID)
			b.must("reading by key id", err)
			byID, err := b.store.EntryByCredential(b.Context(), c.ID)
			b.must("reading by id", err)
			for _, e := range []*token.Entry{byKey, byID} {
				whole := b.agent(a)
				if e.Agent.Metadata != nil {
					b.Errorf("the entry remembers metadata: %s", e.Agent.Metadata)
				}
				e.Agent.Metadata = whole.Metadata
				stored := b.stored(c)
				whole.LastAuthAt, stored.LastUsedAt = time.Time{}, time.Time{} // which no decision rests on
				b.wantSameAgent("the entry's agent", e.Agent, whole)
				wantSame(b, "the entry's credential", e.Credential, stored)
			}
		}
	}
	check()
	b.append([]audit.Record{{Event: b.event(audit.TokenIssued, b.org, a.ID), Basis: b.basis(second)}})
	check()
	b.move(a, agent.Revoked, audit.AgentRevoked)
	check()
}

// countingSource counts the reads of entries.
type countingSource struct {
	token.Source
	reads atomic.Int64
}

// EntryByCredential counts and reads.
func (s *countingSource) EntryByCredential(ctx context.Context, id uuid.UUID) (*token.Entry, error) {
	s.reads.Add(1)
	return s.Source.EntryByCredential(ctx, id)
}

func entryCounter(b *bench) {
	a, c := b.create(b.draft())
	source := &countingSource{Source: b.store}
	directory, err := token.NewDirectory(source, 10)
	b.must("making a directory", err)
	for _, want := range []int64{1, 1, 2, 2} {
		if want == 2 && source.reads.Load() == 1 {
			b.move(a, agent.Suspended, audit.AgentSuspended) // raises the counter
		}
		_, err := directory.Current(b.Context(), c.ID, b.counter())
		b.must("reading an entry", err)
		if got := source.reads.Load(); got != want {
			b.Errorf("the entry was read %d times, want %d", got, want)
		}
	}
}
