package storetest

import (
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

func credentialTests() []test {
	return []test{
		{"reads back what was added", credentialReadsBack},
		{"a change sees the holder and the live ones, and is written", credentialsChanged},
		{"a refused change writes nothing", credentialChangeRefused},
		{"half a change is not written", credentialChangeHalf},
		{"an unknown credential is not found", credentialUnknown},
		{"lists newest first", credentialsListed},
		{"lists no more than the bound", credentialsBounded},
		{"a verifier is replaced and nothing else", verifierSaved},
	}
}

func credentialReadsBack(b *bench) {
	a, first := b.create(b.draft())
	full := b.credential(a)
	full.Label = "étiquette «組» 🚀"
	full.Verifier = credential.Verifier{Bcrypt: []byte{0, 0xfe, '$'}, Fingerprint: []byte("fp\x00\xff"), FingerprintKeyID: "fk-2"}
	full.ExpiresAt = full.CreatedAt.Add(time.Hour + time.Microsecond)
	full.RevokedAt = full.CreatedAt.Add(time.Minute + time.Microsecond)
	full.RotatedFrom = first.ID
	full.NotAfter, full.Pending, full.Canary = full.ExpiresAt.Add(time.Hour), true, true
	full.RefusedUntil, full.RetireSince, full.RetireAfter = full.ExpiresAt, full.CreatedAt, time.Hour
	full.Revision = 5
	wantSame(b, "the credential", b.stored(b.add(a, full)), full)
	bare := b.credential(a)
	bare.Label = ""
	wantSame(b, "the bare credential", b.stored(b.add(a, bare)), bare)
}

func credentialsChanged(b *bench) {
	d := b.draft()
	d.Status, d.Capabilities = agent.Suspended, scope.New("a:b", "c:d")
	a, old := b.create(d)
	revoked := b.credential(a)
	revoked.RevokedAt = b.now()
	b.add(a, revoked)
	kept := b.add(a, b.credential(a))
	bystander, _ := b.create(b.draft())
	b.add(bystander, b.credential(bystander))

	before, e := b.log(), b.event(audit.CredentialRotated, b.org, a.ID)
	fresh := b.credential(a)
	fresh.RotatedFrom = old.ID
	expires, ends := b.now(), b.now()
	b.must("changing credentials", b.store.ChangeCredentials(b.Context(), b.org, a.ID,
		func(h credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error) {
			wantSame(b, "the holder", h, credential.Holder{AgentID: a.ID, OrganizationID: b.org, AgentType: "reader", Status: "suspended", Capabilities: a.Capabilities})
			slices.SortFunc(live, func(x, y credential.Credential) int { return x.CreatedAt.Compare(y.CreatedAt) })
			wantSame(b, "the live credentials", live, []credential.Credential{old, kept})
			changed, ended := live[0], live[1]
			changed.ExpiresAt, ended.RevokedAt = expires, ends
			return []credential.Credential{changed, fresh, ended}, e, nil
		}))
	old.ExpiresAt, kept.RevokedAt = expires, ends
	old.Revision++
	kept.Revision++
	wantSame(b, "the changed credential", b.stored(old), old)
	wantSame(b, "the ended credential", b.stored(kept), kept)
	wantSame(b, "the new credential", b.stored(fresh), fresh)
	wantSame(b, "the untouched credential", b.stored(revoked), revoked)
	b.wantSameAgent("the agent", b.agent(a), a)
	b.wantNext(before, e)

	ended := b.move(a, agent.Revoked, audit.AgentRevoked)
	err := b.store.ChangeCredentials(b.Context(), b.org, a.ID,
		func(h credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error) {
			wantSame(b, "the ended holder", h, credential.Holder{AgentID: a.ID, OrganizationID: b.org, AgentType: "reader", Status: "revoked", Ended: true, Capabilities: ended.Capabilities})
			if len(live) != 0 {
				b.Errorf("a revoked agent has live credentials: %+v", live)
			}
			return nil, audit.Event{}, errChange
		})
	if !errors.Is(err, errChange) {
		b.Errorf("the change gave %v", err)
	}
}

func credentialChangeRefused(b *bench) {
	a, _ := b.create(b.draft())
	b.writesNothing("a refused change", func() {
		err := b.store.ChangeCredentials(b.Context(), b.org, a.ID,
			func(_ credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error) {
				live[0].RevokedAt = b.now()
				return append(live, b.credential(a)), b.event(audit.CredentialCreated, b.org, a.ID), errChange
			})
		if !errors.Is(err, errChange) {
			b.Errorf("the change gave %v, want its own error", err)
		}
	})
}

func credentialChangeHalf(b *bench) {
	a, c := b.create(b.draft())
	b.writesNothing("a change of which the last part fails", func() {
		if err := b.store.ChangeCredentials(b.Context(), b.org, a.ID,
			func(credential.Holder, []credential.Credential) ([]credential.Credential, audit.Event, error) {
				good, bad := b.credential(a), b.credential(a)
				bad.KeyID = c.KeyID
				return []credential.Credential{good, bad}, b.event(audit.CredentialCreated, b.org, a.ID), nil
			}); err == nil {
			b.Error("two credentials share a key id")
		}
	})
}

func credentialUnknown(b *bench) {
	a, c := b.create(b.draft())
	other, _ := b.create(b.draft())
	_, err := b.store.Credential(b.Context(), b.org, a.ID, uuid.New())
	b.wantFault("an unknown credential", err, fault.CodeCredentialNotFound)
	_, err = b.store.Credential(b.Context(), b.org, other.ID, c.ID)
	b.wantFault("another agent's credential", err, fault.CodeCredentialNotFound)
	// AGENT_NOT_FOUND is tested with the agents.
}

func credentialsListed(b *bench) {
	a, first := b.create(b.draft())
	want := []credential.Credential{first}
	same := b.now()
	for i := range 6 {
		c := b.credential(a)
		c.CreatedAt = same.Add(time.Duration(i/3) * time.Microsecond)
		if i%2 == 0 {
			c.RevokedAt = b.now() // a list holds the dead as well
		}
		want = append(want, b.add(a, c))
	}
	slices.SortFunc(want, func(x, y credential.Credential) int { return newer(x.CreatedAt, x.ID, y.CreatedAt, y.ID) })
	other, _ := b.create(b.draft())
	b.add(other, b.credential(other))
	got := walk(b, page.MaxLimit, func(q page.Query) (page.Page[credential.Credential], error) {
		return b.store.Credentials(b.Context(), b.org, a.ID, q)
	})
	wantSame(b, "the credentials", got, want)
}

func credentialsBounded(b *bench) {
	a, _ := b.create(b.draft())
	const more = 2*page.MaxLimit + 7
	many := make([]credential.Credential, more)
	for i := range many {
		many[i] = b.credential(a)
	}
	e := b.event(audit.CredentialCreated, b.org, a.ID)
	b.must("adding many", b.store.ChangeCredentials(b.Context(), b.org, a.ID,
		func(credential.Holder, []credential.Credential) ([]credential.Credential, audit.Event, error) {
			return many, e, nil
		}))
	slices.Reverse(many)
	got := walk(b, page.MaxLimit, func(q page.Query) (page.Page[credential.Credential], error) {
		return b.store.Credentials(b.Context(), b.org, a.ID, q)
	})
	if len(got) != len(many)+1 { // and the one the agent was made with
		b.Errorf("%d of %d credentials are listed", len(got), len(many)+1)
	}
}

func verifierSaved(b *bench) {
	a, c := b.create(b.draft())
	other := b.add(a, b.credential(a))
	before := b.log()
	for _, v := range []credential.Verifier{
		{Bcrypt: []byte("$2a$new"), Fingerprint: []byte("new\x00"), FingerprintKeyID: "fk2"},
		{Fingerprint: []byte("newer"), FingerprintKeyID: "fk3"},
	} {
		c.Verifier = v
		for range 2 {
			b.must("saving a verifier", b.store.SaveVerifier(b.Context(), c.ID, v))
			wantSame(b, "the credential", b.stored(c), c)
		}
	}
	wantSame(b, "the credential beside it", b.stored(other), other)
	b.wantNext(before)
	b.writesNothing("an unknown credential's verifier", func() {
		b.must("saving a verifier", b.store.SaveVerifier(b.Context(), uuid.New(), c.Verifier))
	})
}
