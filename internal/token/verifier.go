package token

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// MaxLength bounds a token before it is parsed, in bytes.
const MaxLength = 8 << 10

// ErrInactive says that a token is not one of ours, or no longer holds. Why is
// not told, as RFC 7662 §2.2 asks.
var ErrInactive = errors.New("the token is not active")

// Token is a verified access token.
type Token struct {
	ID             uuid.UUID
	AgentID        uuid.UUID
	OrganizationID uuid.UUID
	CredentialID   uuid.UUID
	Issuer         string
	Audience       []string
	Scope          scope.Set
	AgentType      string
	Owner          string
	DeploymentEnv  string
	IssuedAt       int64 // seconds since 1970, as are the next two
	NotBefore      int64
	ExpiresAt      int64
}

// RevocationStore keeps the tokens that were revoked one by one.
type RevocationStore interface {
	// RevokeToken stores that the token is revoked until it would expire anyway,
	// and the event, in one transaction. Revoking it again writes nothing.
	RevokeToken(ctx context.Context, id uuid.UUID, expiresAt time.Time, event audit.Event) error
	// TokenRevoked reports whether the token was revoked.
	TokenRevoked(ctx context.Context, id uuid.UUID) (bool, error)
}

// VerifierConfig is what a Verifier needs.
type VerifierConfig struct {
	Issuer      string
	Ring        *keys.Ring
	Directory   *Directory
	Revocations RevocationStore
	// CacheEntries bounds how many signatures are remembered as good.
	CacheEntries int
	Now          func() time.Time
}

// Verifier tells whether a token holds at this moment.
type Verifier struct {
	cfg    VerifierConfig
	signed *otter.Cache[[sha256.Size]byte, *verified]
	tally  tally
}

// verified is a token whose signature is good, the key that made it, and the change
// counter at which the token was last found to hold.
type verified struct {
	Token
	kid     string
	counter int64
}

// NewVerifier makes a verifier.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	cache, err := otter.New(&otter.Options[[sha256.Size]byte, *verified]{MaximumSize: cfg.CacheEntries})
	if err != nil {
		return nil, err
	}
	return &Verifier{cfg: cfg, signed: cache}, nil
}

// Verify gives a token that is ours, in its time, not revoked, of an active agent
// that still has the capabilities, and of a credential that was not revoked. It
// fails with ErrInactive, or with UNAVAILABLE where the state could not be read.
func (v *Verifier) Verify(ctx context.Context, raw string) (*Token, error) {
	m, err := v.cfg.Directory.Now(ctx)
	if err != nil {
		return nil, err
	}
	return v.VerifyAt(ctx, m, raw)
}

// Now gives the present moment, for all that one request must know of it.
func (v *Verifier) Now(ctx context.Context) (Moment, error) { return v.cfg.Directory.Now(ctx) }

// VerifyAt is Verify: the token held at the moment, or later.
func (v *Verifier) VerifyAt(ctx context.Context, m Moment, raw string) (*Token, error) {
	counter := int64(m)
	known, key, err := v.known(ctx, raw)
	if err != nil {
		return nil, err
	}
	if known.counter != counter {
		if err := v.holds(ctx, &known.Token, counter); err != nil {
			return nil, err
		}
		known = &verified{Token: known.Token, kid: known.kid, counter: counter}
		v.signed.Set(key, known)
	}
	t := known.Token
	return &t, nil
}

// SignedAt gives a token that is ours and in its time, whatever has become of its
// agent: enough to revoke it, at any moment. It fails as Verify does.
func (v *Verifier) SignedAt(ctx context.Context, _ Moment, raw string) (*Token, error) {
	known, _, err := v.known(ctx, raw)
	if err != nil {
		return nil, err
	}
	t := known.Token
	return &t, nil
}

// known gives a token whose signature is good and whose time it is.
func (v *Verifier) known(ctx context.Context, raw string) (*verified, [sha256.Size]byte, error) {
	if len(raw) > MaxLength {
		return nil, [sha256.Size]byte{}, ErrInactive
	}
	key := sha256.Sum256([]byte(raw))
	known, ok := v.signed.GetIfPresent(key)
	if !v.tally.note(ok) {
		t, kid, err := v.parse(ctx, raw)
		if err != nil {
			return nil, key, err
		}
		known = &verified{Token: *t, kid: kid, counter: -1}
	} else if _, _, published := v.cfg.Ring.PublicKey(known.kid); !published {
		return nil, key, ErrInactive // the key was taken away since
	}
	if now := v.cfg.Now().Unix(); now >= known.ExpiresAt || now < known.NotBefore-clockSkew {
		return nil, key, ErrInactive
	}
	return known, key, nil
}

// Stats tells how often a signature was remembered as good.
func (v *Verifier) Stats() Stats { return v.tally.stats() }

// clockSkew is how many seconds another node's clock may be ahead.
const clockSkew = 5

// holds asks the registry whether the token still stands.
func (v *Verifier) holds(ctx context.Context, t *Token, counter int64) error {
	e, err := v.cfg.Directory.Current(ctx, t.CredentialID, counter)
	if errors.Is(err, ErrNoEntry) {
		return ErrInactive
	}
	if err != nil {
		return fault.UnavailableBecause(err)
	}
	if e.Agent.ID != t.AgentID || e.Agent.Status != agent.Active || !e.Credential.RevokedAt.IsZero() ||
		audit.TimeOf(t.ID).Before(e.Agent.TokensValidAfter) {
		return ErrInactive
	}
	// A token does not outlive the capabilities it was made of.
	if len(e.Agent.Capabilities.Missing(t.Scope)) > 0 {
		return ErrInactive
	}
	revoked, err := v.cfg.Revocations.TokenRevoked(ctx, t.ID)
	if err != nil {
		return fault.UnavailableBecause(err)
	}
	if revoked {
		return ErrInactive
	}
	return nil
}

// parse checks form and signature (RFC 9068 §4): only our own keys, each with
// its own algorithm, and only the type of an access token.
func (v *Verifier) parse(ctx context.Context, raw string) (t *Token, kid string, err error) {
	if strings.Count(raw, ".") != 2 {
		return nil, "", ErrInactive
	}
	parsed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.RS256})
	if err != nil {
		return nil, "", ErrInactive
	}
	header := parsed.Signatures[0].Protected
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); !strings.EqualFold(typ, "at+jwt") && !strings.EqualFold(typ, "application/at+jwt") {
		return nil, "", ErrInactive
	}
	public, alg, ok := v.cfg.Ring.PublicKey(header.KeyID)
	if !ok {
		// Another node may have begun to sign with a key we have not read yet.
		if err := v.cfg.Ring.Refresh(ctx); err != nil {
			return nil, "", fault.UnavailableBecause(err)
		}
		public, alg, ok = v.cfg.Ring.PublicKey(header.KeyID)
	}
	if !ok || header.Algorithm != string(alg) {
		return nil, "", ErrInactive
	}
	payload, err := parsed.Verify(public)
	if err != nil {
		return nil, "", ErrInactive
	}
	t, err = v.claims(payload)
	return t, header.KeyID, err
}

func (v *Verifier) claims(payload []byte) (*Token, error) {
	var c struct {
		Issuer        string          `json:"iss"`
		Subject       uuid.UUID       `json:"sub"`
		Audience      json.RawMessage `json:"aud"`
		ExpiresAt     int64           `json:"exp"`
		IssuedAt      int64           `json:"iat"`
		NotBefore     int64           `json:"nbf"`
		ID            uuid.UUID       `json:"jti"`
		Scope         string          `json:"scope"`
		Organization  uuid.UUID       `json:"org"`
		AgentType     string          `json:"agent_type"`
		Owner         string          `json:"owner"`
		DeploymentEnv string          `json:"deployment_env"`
		Credential    uuid.UUID       `json:"cid"`
	}
	if err := json.Unmarshal(payload, &c); err != nil || c.Issuer != v.cfg.Issuer {
		return nil, ErrInactive
	}
	audience, err := parseAudience(c.Audience)
	if err != nil {
		return nil, ErrInactive
	}
	return &Token{
		ID: c.ID, AgentID: c.Subject, OrganizationID: c.Organization, CredentialID: c.Credential, Issuer: c.Issuer,
		Audience: audience, Scope: scope.New(strings.Fields(c.Scope)...), AgentType: c.AgentType, Owner: c.Owner, DeploymentEnv: c.DeploymentEnv,
		IssuedAt: c.IssuedAt, NotBefore: c.NotBefore, ExpiresAt: c.ExpiresAt,
	}, nil
}

// parseAudience reads an aud claim, a text or a list of texts (RFC 7519 §4.1.3).
func parseAudience(raw json.RawMessage) ([]string, error) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}
	var many []string
	err := json.Unmarshal(raw, &many)
	return many, err
}
