package token

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// Grant is what was allowed: who gets a token, for what, and for whom.
type Grant struct {
	Entry    *Entry
	Scope    scope.Set
	Audience []string
	Origin   audit.Origin
	// Submitted is called when the event has been handed to the log; may be nil.
	Submitted func()
}

// Issued is a token that may leave the server: its event is durable.
type Issued struct {
	Token string
	ID    uuid.UUID
	// EventID is that of the event that records it.
	EventID   uuid.UUID
	Scope     scope.Set
	ExpiresIn time.Duration
}

// IssuerConfig is what an Issuer needs.
type IssuerConfig struct {
	// Issuer is the iss claim and the default audience, without a trailing slash.
	Issuer string
	// TTL is the lifetime where the agent has none of its own.
	TTL time.Duration
	// MaxTTL bounds every lifetime: keys retire so long after they last signed.
	MaxTTL time.Duration
	Ring   *keys.Ring
	Log    *audit.Log
	Now    func() time.Time
}

// ErrTooLong says that the token would be longer than MaxLength, so that no service
// could be sure to take it.
var ErrTooLong = errors.New("the token would be too long")

// Issuer makes access tokens (RFC 9068).
type Issuer struct{ cfg IssuerConfig }

// NewIssuer makes an issuer.
func NewIssuer(cfg IssuerConfig) *Issuer { return &Issuer{cfg: cfg} }

// Issue makes a token. Its event is handed to the log before the token is
// signed, so that the signature is made while the event is being committed, and
// the token is given only after. It fails with ErrTooLong before anything is
// recorded; with audit.ErrStale where the grant
// rests on a state that has changed, and then nothing is issued or recorded;
// with UNAVAILABLE where the event could not be made durable.
func (i *Issuer) Issue(ctx context.Context, g Grant) (Issued, error) {
	now := i.cfg.Now().UTC().Truncate(time.Microsecond)
	// A clock that lags behind the node that suspended the agent must not make
	// tokens that are born dead; one that was set back must not make them for later.
	if ahead := g.Entry.Agent.TokensValidAfter.Sub(now); ahead > clockSkew*time.Second {
		return Issued{}, fault.UnavailableBecause(fmt.Errorf("the tokens of agent %s are dead for %s to come: was the clock set back?", g.Entry.Agent.ID, ahead))
	} else if ahead > 0 {
		now = g.Entry.Agent.TokensValidAfter
	}
	signer, err := i.cfg.Ring.Signer(now)
	if err != nil {
		return Issued{}, err
	}
	ttl := i.cfg.TTL
	if g.Entry.Agent.TokenTTL != 0 {
		ttl = g.Entry.Agent.TokenTTL
	}
	ttl = min(ttl, i.cfg.MaxTTL)
	if len(g.Audience) == 0 {
		g.Audience = []string{i.cfg.Issuer}
	}
	id := audit.NewID(now)
	jti, asked := id.String(), g.Scope.String()
	payload := i.claims(g, jti, asked, now, ttl)
	if signedLength(payload) > MaxLength {
		return Issued{}, ErrTooLong
	}
	event := i.event(g, jti, asked, now, ttl)
	pending, err := i.cfg.Log.Submit(audit.Record{Event: event, Basis: g.Entry.basis(now)})
	if g.Submitted != nil {
		g.Submitted()
	}
	if err != nil {
		return Issued{}, err
	}
	signed, err := keys.SignCompact(signer, "at+jwt", payload)
	if err != nil {
		return Issued{}, err
	}
	counter, err := pending.Wait(ctx)
	if err != nil {
		return Issued{}, err
	}
	g.Entry.heldAt(counter)
	g.Entry.usedAt(now)
	return Issued{Token: signed, ID: id, EventID: event.ID, Scope: g.Scope, ExpiresIn: ttl}, nil
}

func (i *Issuer) event(g Grant, jti, scope string, now time.Time, ttl time.Duration) audit.Event {
	a := &g.Entry.Agent
	g.Origin.Actor = audit.Actor{Type: audit.TypeAgent, ID: g.Entry.AgentID}
	return g.Origin.Event(now, a.OrganizationID, audit.TokenIssued, audit.Target{Type: audit.TypeToken, ID: jti}).
		About(a.ID).
		With(audit.Details{}.String("scope", scope).Strings("audience", g.Audience).
			String("credentialId", g.Entry.CredentialID).
			Time("expiresAt", now.Truncate(time.Second).Add(ttl)))
}

// claims appends the payload; reflection would cost as much as the signature.
func (i *Issuer) claims(g Grant, jti, scope string, now time.Time, ttl time.Duration) []byte {
	a := &g.Entry.Agent
	subject := g.Entry.AgentID
	iat := now.Unix()
	b := make([]byte, 0, 768)
	b = append(b, '{')
	b = member(b, "iss", i.cfg.Issuer)
	b = member(b, "sub", subject)
	b = member(b, "client_id", subject)
	b = append(b, `"aud":`...)
	b = AppendAudience(b, g.Audience)
	b = append(b, `,"exp":`...)
	b = strconv.AppendInt(b, iat+int64(ttl/time.Second), 10)
	b = append(b, `,"iat":`...)
	b = strconv.AppendInt(b, iat, 10)
	b = append(b, `,"nbf":`...)
	b = strconv.AppendInt(b, iat, 10)
	b = append(b, ',')
	b = member(b, "jti", jti)
	b = member(b, "scope", scope)
	b = member(b, "org", g.Entry.OrganizationID)
	b = member(b, "agent_type", a.Type)
	b = member(b, "owner", a.Owner)
	b = member(b, "deployment_env", a.DeploymentEnv)
	b = member(b, "cid", g.Entry.CredentialID)
	b[len(b)-1] = '}'
	return b
}

func member(b []byte, name, value string) []byte {
	b = append(b, '"')
	b = append(b, name...)
	b = append(b, `":`...)
	b = audit.AppendText(b, value)
	return append(b, ',')
}

// AppendAudience appends an aud value: a text where there is one audience, a list
// where there are several (RFC 7519 §4.1.3).
func AppendAudience(b []byte, audience []string) []byte {
	if len(audience) == 1 {
		return audit.AppendText(b, audience[0])
	}
	for i, a := range audience {
		b = append(b, "[,"[min(i, 1)])
		b = audit.AppendText(b, a)
	}
	return append(b, ']')
}

// longestSignature is that of RS256 with the keys we make, in base64.
const longestSignature = 512

// signedLength is about how long a token of the payload will be, and never less.
func signedLength(payload []byte) int {
	const header = 160
	return header + base64.RawURLEncoding.EncodedLen(len(payload)) + longestSignature
}
