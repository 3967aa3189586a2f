package postgres_test

import (
	"context"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
)

// rotations is what credentials are rotated by.
func rotations(s *store.Store, a agent.Agent, c credential.Credential) []deed {
	org, now := organization.DefaultID(), time.Now()
	told := func() audit.Event {
		return audit.System("test").Event(now, org, audit.RotationPolicyApplied, audit.Target{})
	}
	deeds := []deed{
		{"setting a policy", func() error {
			return s.SetRotationPolicy(context.Background(), org, "type-1", func(*credential.RotationPolicy) (credential.RotationPolicy, audit.Event, error) {
				p := credential.DefaultPolicy()
				p.UpdatedAt = now
				return p, told(), nil
			})
		}},
		{"applying a policy", func() error {
			_, err := s.ApplyRotationPolicy(context.Background(), 200, func(credential.RotationPolicy, credential.Credential) (time.Time, bool) {
				return now.AddDate(0, 0, 30), true
			},
				func(credential.RotationPolicy, []credential.Credential) audit.Event { return told() })
			return err
		}},
		{"a policy", func() error { _, err := s.RotationPolicy(context.Background(), org, "type-1"); return err }},
		{"policies", func() error { _, err := s.RotationPolicies(context.Background(), org); return err }},
		{"what is due", func() error { _, err := s.DueCredentials(context.Background(), now.AddDate(0, 6, 0), 500); return err }},
		{"a look", func() error {
			_, err := s.NoteLooks(context.Background(), []credential.Look{{ID: c.ID, Seen: now}})
			return err
		}},
		{"noting instances", func() error {
			return s.NoteInstances(context.Background(), []credential.Instance{{CredentialID: c.ID, Name: "one", LastUsedAt: now}, {CredentialID: c.ID, Name: "two", LastUsedAt: now}})
		}},
		{"instances", func() error {
			_, err := s.AgentInstances(context.Background(), org, a.ID, now.AddDate(0, 0, -1))
			return err
		}},
		{"changing credentials", func() error {
			return s.ChangeCredentials(context.Background(), org, a.ID, func(_ credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error) {
				return live, event(now, audit.CredentialRotated, a.ID), nil
			})
		}},
	}
	for _, after := range []uuid.UUID{uuid.Nil, c.ID} {
		deeds = append(
			deeds,
			deed{"used successors", func() error { _, err := s.UsedSuccessors(context.Background(), after, 500); return err }},
			deed{"what is to be retired", func() error { _, err := s.RetiringCredentials(context.Background(), after, 500); return err }},
		)
	}
	for _, after := range []page.Cursor{{}, {Time: now.AddDate(1, 0, -1), ID: uuid.New()}} {
		for _, before := range []time.Time{now, now.AddDate(1, 0, -1), now.AddDate(3, 0, 0)} {
			deeds = append(deeds, deed{"what ends", func() error {
				_, err := s.ExpiringCredentials(context.Background(), org, now, before, page.Query{Limit: page.MaxLimit, After: after})
				return err
			}})
		}
	}
	return deeds
}
