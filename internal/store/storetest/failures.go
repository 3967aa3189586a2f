package storetest

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

func failureTests() []test {
	return []test{
		{"a request that was given up writes nothing", func(b *bench) {
			ctx, cancel := context.WithCancel(b.Context())
			cancel()
			a, c := b.create(b.draft())
			b.keyring(nil, b.key("k1"))
			b.writesNothing("a request that was given up", func() { b.wantUnavailable(ctx, a, c) })
		}},
		{"a request given up within its transaction writes nothing", givenUpWithin},
		{"a closed database is unavailable", func(b *bench) {
			a, c := b.create(b.draft())
			if err := b.store.Ping(b.Context()); err != nil {
				b.Errorf("an open database does not answer: %v", err)
			}
			b.must("closing", b.store.Close())
			if err := b.store.Ping(b.Context()); err == nil {
				b.Error("a closed database answers")
			}
			b.wantUnavailable(b.Context(), a, c)
		}},
	}
}

// wantUnavailable calls everything there is and wants it to fail as a database
// that is away does.
func (b *bench) wantUnavailable(ctx context.Context, a agent.Agent, c credential.Credential) {
	b.Helper()
	s, q, e := b.store, page.Query{Limit: 10}, b.event(audit.AgentUpdated, b.org, a.ID)
	fresh := b.draft()
	for name, do := range map[string]func() error{
		"Agent":         func() error { _, err := s.Agent(ctx, b.org, a.ID); return err },
		"Agents":        func() error { _, err := s.Agents(ctx, b.org, agent.Filter{}, q); return err },
		"CreateAgent":   func() error { return s.CreateAgent(ctx, fresh, b.credential(fresh), e) },
		"Counter":       func() error { _, err := s.Counter(ctx); return err },
		"Credential":    func() error { _, err := s.Credential(ctx, b.org, a.ID, c.ID); return err },
		"Credentials":   func() error { _, err := s.Credentials(ctx, b.org, a.ID, page.Query{Limit: page.MaxLimit}); return err },
		"SaveVerifier":  func() error { return s.SaveVerifier(ctx, c.ID, credential.Verifier{Fingerprint: []byte("x")}) },
		"Event":         func() error { _, err := s.Event(ctx, b.org, e.ID); return err },
		"Events":        func() error { _, err := s.Events(ctx, b.org, audit.Filter{}, q); return err },
		"AppendRecords": func() error { _, err := s.AppendRecords(ctx, []audit.Record{{Event: e}}); return err },
		"EntryByKeyID":  func() error { _, err := s.EntryByKeyID(ctx, c.KeyID); return err },
		"EntryByCredential": func() error {
			_, err := s.EntryByCredential(ctx, c.ID)
			return err
		},
		"Organization":  func() error { _, err := s.Organization(ctx, b.org); return err },
		"Organizations": func() error { _, err := s.Organizations(ctx, q); return err },
		"CreateOrganization": func() error {
			return s.CreateOrganization(ctx, organization.Organization{ID: uuid.New(), Name: "x"}, e)
		},
		"RevokeToken":       func() error { return s.RevokeToken(ctx, uuid.New(), e.Time, e) },
		"TokenRevoked":      func() error { _, err := s.TokenRevoked(ctx, uuid.New()); return err },
		"ForgetRevocations": func() error { _, err := s.ForgetRevocations(ctx, e.Time); return err },
		"Position":          func() error { _, err := s.Position(ctx, "file"); return err },
		"Advance":           func() error { return s.Advance(ctx, "file", 0, 1) },
		"SigningKeys":       func() error { _, err := s.SigningKeys(ctx); return err },
		"ResealSigningKey":  func() error { return s.ResealSigningKey(ctx, "k1", []byte("x")) },
		"UpdateAgent": func() error {
			_, err := s.UpdateAgent(ctx, b.org, a.ID, func(*agent.Agent) (audit.Event, error) { return e, nil })
			return err
		},
		"UpdateOrganization": func() error {
			_, err := s.UpdateOrganization(ctx, b.org, func(*organization.Organization) (audit.Event, error) { return e, nil })
			return err
		},
		"ChangeCredentials": func() error {
			return s.ChangeCredentials(ctx, b.org, a.ID, func(credential.Holder, []credential.Credential) ([]credential.Credential, audit.Event, error) {
				return nil, e, nil
			})
		},
		"ChangeSigningKeys": func() error {
			return s.ChangeSigningKeys(ctx, func([]keys.Stored) ([]keys.Stored, audit.Event, error) { return nil, e, nil })
		},
	} {
		b.wantFault(name, do(), fault.CodeUnavailable)
	}
}

func givenUpWithin(b *bench) {
	a, _ := b.create(b.draft())
	b.writesNothing("a request given up within its transaction", func() {
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		_, err := b.store.UpdateAgent(ctx, b.org, a.ID, func(a *agent.Agent) (audit.Event, error) {
			a.Owner = "never"
			cancel()
			return b.event(audit.AgentUpdated, b.org, a.ID), nil
		})
		b.wantFault("the update", err, fault.CodeUnavailable)
		if errors.Is(err, agent.ErrUnchanged) {
			b.Error("the update is taken for one that changes nothing")
		}
	})
	b.move(a, agent.Suspended, audit.AgentSuspended) // nothing is left locked
}
