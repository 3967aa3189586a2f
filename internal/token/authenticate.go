package token

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// Denial says why a client was not authenticated. The reason is for the audit
// log; a caller learns no more than that it failed.
type Denial struct {
	Reason string
	// Entry is the credential that was presented, nil where there is none.
	Entry *Entry
}

// Error gives the reason.
func (d *Denial) Error() string { return "client authentication failed: " + d.Reason }

// The reasons for a denial, as the audit log names them.
const (
	ReasonNoCredentials     = "no_credentials"
	ReasonUnknownClient     = "unknown_client"
	ReasonWrongClient       = "wrong_client" // the secret is right, and another agent's
	ReasonMalformedSecret   = "malformed_secret"
	ReasonWrongSecret       = "wrong_secret"
	ReasonCredentialExpired = "credential_expired"
	ReasonCredentialRevoked = "credential_revoked"
	ReasonBrownout          = "credential_brownout" // for a while, to see who still uses it
	ReasonCanary            = "canary"
)

// VerifierStore keeps a renewed verifier.
type VerifierStore interface {
	// SaveVerifier replaces how a secret is verified, not what it is.
	SaveVerifier(ctx context.Context, id uuid.UUID, v credential.Verifier) error
}

// Authenticator tells which agent presents a secret.
type Authenticator struct {
	directory *Directory
	hasher    *credential.Hasher
	verifiers VerifierStore
	now       func() time.Time
}

// NewAuthenticator makes an authenticator.
func NewAuthenticator(d *Directory, h *credential.Hasher, v VerifierStore, now func() time.Time) *Authenticator {
	return &Authenticator{directory: d, hasher: h, verifiers: v, now: now}
}

// Authenticate gives the entry of the client that presents the secret; source is
// the address it calls from. The entry may be remembered and out of date: what is
// decided on it must be checked when it is committed. It fails with *Denial, or
// with UNAVAILABLE where nothing could be decided.
func (a *Authenticator) Authenticate(ctx context.Context, clientID string, presented secret.Value, source string) (*Entry, error) {
	return a.authenticate(ctx, clientID, presented, source, a.directory.Cached)
}

// AuthenticateAfresh is Authenticate on rows that are read now.
func (a *Authenticator) AuthenticateAfresh(ctx context.Context, clientID string, presented secret.Value, source string) (*Entry, error) {
	return a.authenticate(ctx, clientID, presented, source, a.fresh)
}

// AuthenticateAt is Authenticate for what is answered without a commit: the entry held
// at the moment, or later.
func (a *Authenticator) AuthenticateAt(ctx context.Context, m Moment, clientID string, presented secret.Value, source string) (*Entry, error) {
	e, err := a.Authenticate(ctx, clientID, presented, source)
	if err == nil && e.counter.Load() < int64(m) {
		return a.AuthenticateAfresh(ctx, clientID, presented, source)
	}
	return e, err
}

// lookup finds the entry of a key id; fresh says that it was read just now.
type lookup func(ctx context.Context, keyID string) (e *Entry, fresh bool, err error)

func (a *Authenticator) fresh(ctx context.Context, keyID string) (*Entry, bool, error) {
	e, err := a.directory.Read(ctx, keyID)
	return e, true, err
}

func (a *Authenticator) authenticate(ctx context.Context, clientID string, presented secret.Value, source string, find lookup) (*Entry, error) {
	s, err := credential.ParseSecret(presented.Reveal())
	if err != nil {
		a.hasher.Dummy()
		return nil, &Denial{Reason: ReasonMalformedSecret}
	}
	e, fresh, err := find(ctx, s.KeyID())
	if errors.Is(err, ErrNoEntry) {
		a.hasher.Dummy()
		return nil, &Denial{Reason: ReasonUnknownClient}
	}
	if err != nil {
		return nil, fault.UnavailableBecause(err)
	}
	ok, renewed, err := a.hasher.Verify(ctx, s, e.Credential.Verifier, e.AgentID+" "+source)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &Denial{Reason: ReasonWrongSecret, Entry: e}
	}
	if e.AgentID != clientID {
		return nil, &Denial{Reason: ReasonWrongClient, Entry: e}
	}
	if renewed != nil {
		if err := a.verifiers.SaveVerifier(ctx, e.Credential.ID, *renewed); err != nil {
			return nil, fault.UnavailableBecause(err)
		}
		a.directory.Forget(s.KeyID())
	}
	reason := a.refusal(e)
	if reason != "" && !fresh {
		// What is remembered may be out of date, and a refusal is not committed.
		return a.AuthenticateAfresh(ctx, clientID, presented, source)
	}
	if reason != "" {
		return nil, &Denial{Reason: reason, Entry: e}
	}
	return e, nil
}

// refusal says why a client that knows its secret may still not have a token.
func (a *Authenticator) refusal(e *Entry) string {
	if e.Credential.Canary && e.Credential.RevokedAt.IsZero() {
		return ReasonCanary // whatever its agent may do otherwise
	}
	if e.Agent.Status != agent.Active {
		return "agent_" + string(e.Agent.Status)
	}
	now := a.now()
	switch e.Credential.Status(now) {
	case credential.Revoked:
		return ReasonCredentialRevoked
	case credential.Expired:
		return ReasonCredentialExpired
	}
	if now.Before(e.Credential.RefusedUntil) {
		return ReasonBrownout
	}
	return ""
}
