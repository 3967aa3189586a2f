package leak

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
)

// Bounds on one report and on one question.
const (
	// MaxReports is how many secrets one request may name.
	MaxReports = 100
	// maxText is what is kept of where a secret was found, in bytes.
	maxText = 512
)

// Entries finds credentials.
type Entries interface {
	// EntryByKeyID gives the credential whose secret carries the key id, or token.ErrNoEntry.
	EntryByKeyID(ctx context.Context, keyID string) (*token.Entry, error)
}

// Agents suspends agents.
type Agents interface {
	// Suspend fails with CONFLICT where the agent is not active.
	Suspend(ctx context.Context, by policy.Caller, org, id uuid.UUID, reason string, ifRevision ...int64) (agent.Agent, error)
}

// Denials records refusals.
type Denials interface {
	Deny(ctx context.Context, e audit.Event) error
}

// Config is what a Responder needs.
type Config struct {
	Entries     Entries
	Credentials credential.Store
	Policies    credential.PolicySource
	Agents      Agents
	Denials     Denials
	Hasher      *credential.Hasher
	Now         func() time.Time
}

// Responder acts on secrets that are where they must not be.
type Responder struct{ cfg Config }

// New makes a responder.
func New(cfg Config) *Responder { return &Responder{cfg: cfg} }

// Report is a secret that somebody found.
type Report struct {
	Token secret.Value
	// Type, URL and Source are what the reporter says of it.
	Type, URL, Source string
}

// Verdict says whether what was found is a secret of ours.
type Verdict struct {
	// Hash is SHA-256 of what was found.
	Hash [sha256.Size]byte
	Type string
	True bool
}

// Found acts on reports, in order, by the policies of the agents whose secrets they are,
// and records it. A text that cannot be a secret of ours costs no question to the
// database. It may be repeated. It fails with UNAVAILABLE, or RATE_LIMITED; what was
// done until then is done.
func (r *Responder) Found(ctx context.Context, by audit.Origin, reporter string, reports []Report) ([]Verdict, error) {
	verdicts := make([]Verdict, 0, len(reports))
	for _, one := range reports {
		e, err := r.owner(ctx, one.Token)
		if err != nil {
			return nil, err
		}
		if e != nil {
			if err := r.act(ctx, by, reporter, e, one); err != nil {
				return nil, err
			}
		}
		verdicts = append(verdicts, Verdict{Hash: sha256.Sum256([]byte(one.Token.Reveal())), Type: one.Type, True: e != nil})
	}
	return verdicts, nil
}

// owner gives the credential that a text is the secret of, nil where it is none.
func (r *Responder) owner(ctx context.Context, text secret.Value) (*token.Entry, error) {
	s, err := credential.ParseSecret(text.Reveal())
	if err != nil {
		return nil, nil //nolint:nilerr // it is no secret of ours, which is an answer
	}
	e, err := r.cfg.Entries.EntryByKeyID(ctx, s.KeyID())
	if errors.Is(err, token.ErrNoEntry) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.UnavailableBecause(err)
	}
	ok, _, err := r.cfg.Hasher.Verify(ctx, s, e.Credential.Verifier, "leaked "+e.Agent.ID.String())
	if err != nil || !ok {
		return nil, err
	}
	return e, nil
}

// act ends what was found, and suspends its agent where the policy says so.
func (r *Responder) act(ctx context.Context, by audit.Origin, reporter string, e *token.Entry, found Report) error {
	org, id := e.Agent.OrganizationID, e.Agent.ID
	p, err := r.cfg.Policies.RotationPolicy(ctx, org, e.Agent.Type)
	if err != nil {
		return err
	}
	action := credential.LeakRevokes
	if p != nil {
		action = p.OnLeak
	}
	if action == credential.LeakSuspends {
		if err := r.suspend(ctx, by, e, "a secret of the agent was found where it must not be"); err != nil {
			return err
		}
	}
	return r.cfg.Credentials.ChangeCredentials(ctx, org, id, func(_ credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error) {
		now := r.cfg.Now().UTC().Truncate(time.Microsecond)
		var changed []credential.Credential
		for _, c := range live {
			if c.ID == e.Credential.ID {
				c.RevokedAt, c.Pending = now, false
				changed = append(changed, c)
			}
		}
		details := audit.Details{}.String("action", string(action)).Bool("wasLive", len(changed) > 0).String("reporter", reporter).
			String("type", bounded(found.Type)).String("source", bounded(found.Source)).String("url", bounded(found.URL))
		target := audit.Target{Type: audit.TypeCredential, ID: e.Credential.ID.String()}
		return changed, by.Event(now, org, audit.CredentialLeaked, target).About(id).With(details), nil
	})
}

func bounded(s string) string {
	if len(s) > maxText {
		return s[:maxText]
	}
	return s
}

// suspend suspends an agent that is active.
func (r *Responder) suspend(ctx context.Context, by audit.Origin, e *token.Entry, reason string) error {
	if e.Agent.Status != agent.Active {
		return nil
	}
	_, err := r.cfg.Agents.Suspend(ctx, policy.Caller{Origin: by, OrganizationID: e.Agent.OrganizationID}, e.Agent.OrganizationID, e.Agent.ID, reason)
	if fault.Is(err, fault.CodeConflict) {
		return nil // it has been, or has ended
	}
	return err
}

// CanaryUsed suspends the agent of a credential that nobody should ever use, and records
// it. It may be repeated. It fails with UNAVAILABLE.
func (r *Responder) CanaryUsed(ctx context.Context, by audit.Origin, e *token.Entry) error {
	if err := r.suspend(ctx, by, e, "a canary credential was used"); err != nil {
		return err
	}
	target := audit.Target{Type: audit.TypeCredential, ID: e.Credential.ID.String()}
	return r.cfg.Denials.Deny(ctx, by.Event(r.cfg.Now(), e.Agent.OrganizationID, audit.CanaryUsed, target).About(e.Agent.ID).
		Deny(token.ReasonCanary).With(audit.Details{}.String("label", e.Credential.Label)))
}

// Known is what is known of a key id.
type Known struct {
	KeyID string
	// Credential is the zero one where the organization has none of that key id.
	Credential credential.Credential
}

// Lookup tells which credentials of the organization carry the key ids. A key id is the
// part of a secret that is none, so that one who found secrets need not send them.
func (r *Responder) Lookup(ctx context.Context, organization uuid.UUID, keyIDs []string) ([]Known, error) {
	all := make([]Known, 0, len(keyIDs))
	for _, keyID := range keyIDs {
		k := Known{KeyID: keyID}
		e, err := r.cfg.Entries.EntryByKeyID(ctx, keyID)
		switch {
		case errors.Is(err, token.ErrNoEntry):
		case err != nil:
			return nil, fault.UnavailableBecause(err)
		case e.Agent.OrganizationID == organization:
			k.Credential = e.Credential
		}
		all = append(all, k)
	}
	return all, nil
}
