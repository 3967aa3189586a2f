package oauth

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// Organizations gives the settings of a tenant.
type Organizations interface {
	// Organization gives one, or NOT_FOUND; it may be a few seconds old.
	Organization(ctx context.Context, id uuid.UUID) (organization.Organization, error)
}

// Limiter bounds how often something may happen.
type Limiter interface {
	// Take takes one from the budget of the key, of perMinute a minute, where zero
	// means the limiter's own.
	Take(ctx context.Context, key string, perMinute int64) request.Budget
}

// Gate bounds how many requests are worked on at a time.
type Gate interface {
	// Enter waits for the caller's turn; leave must then be called once. It fails with
	// UNAVAILABLE where there is too much to do.
	Enter(ctx context.Context) (leave func(), err error)
}

// Rotator makes the successor of a credential.
type Rotator interface {
	// Rotate fails with credential.ErrNotRotatable and credential.ErrEnded.
	Rotate(ctx context.Context, by audit.Origin, organization, agentID, id uuid.UUID) (credential.Issued, error)
}

// Canaries hears of credentials that were used and that nobody should ever use.
type Canaries interface {
	// CanaryUsed suspends the agent and records it.
	CanaryUsed(ctx context.Context, by audit.Origin, e *token.Entry) error
}

// Uses hears which instance of an agent used a credential.
type Uses interface {
	Note(credential uuid.UUID, name string, address netip.Addr, at time.Time)
}

// Config is what the OAuth endpoints need.
type Config struct {
	Issuer        string
	Authenticator *token.Authenticator
	Tokens        *token.Issuer
	Verifier      *token.Verifier
	Revocations   token.RevocationStore
	Ring          *keys.Ring
	Log           *audit.Log
	Denials       *audit.Folder
	Decider       policy.Decider
	Organizations Organizations
	Gate          Gate
	Rotator       Rotator
	Canaries      Canaries
	Uses          Uses
	Clients       Limiter
	Tenants       Limiter
	Now           func() time.Time
}

// Handler serves the OAuth endpoints.
type Handler struct {
	cfg    Config
	grants map[string]grant
}

// New makes the handler.
func New(cfg Config) *Handler {
	h := &Handler{cfg: cfg}
	h.grants = map[string]grant{"client_credentials": clientCredentials{decider: cfg.Decider}}
	return h
}

// Route is one endpoint.
type Route struct {
	Method, Path string
	Handler      http.HandlerFunc
}

// Routes lists the endpoints.
func (h *Handler) Routes() []Route {
	return []Route{
		{http.MethodPost, "/oauth2/token", h.handle(h.token)},
		{http.MethodPost, "/oauth2/rotate", h.handle(h.rotate)},
		{http.MethodPost, "/oauth2/introspect", h.handle(h.introspect)},
		{http.MethodPost, "/oauth2/revoke", h.handle(h.revoke)},
		{http.MethodGet, "/.well-known/oauth-authorization-server", h.metadata},
		{http.MethodGet, "/.well-known/openid-configuration", h.metadata},
		{http.MethodGet, "/.well-known/jwks.json", h.jwks},
	}
}

// endpoint reads a form and gives what to answer, or an error; it may add headers
// that both have.
type endpoint func(ctx context.Context, headers http.Header, r *http.Request, f form) (answer, error)

// answer writes itself.
type answer func(w http.ResponseWriter, r *http.Request)

func (h *Handler) handle(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Pragma", "no-cache")
		f, err := readForm(w, r)
		if err != nil {
			writeError(w, r, err)
			return
		}
		// A body that comes slowly has kept nobody from a place.
		write, err := h.inTurn(r, w.Header(), f, e)
		if err != nil {
			writeError(w, r, err)
			return
		}
		write(w, r)
	}
}

func (h *Handler) inTurn(r *http.Request, headers http.Header, f form, e endpoint) (answer, error) {
	leave, err := h.cfg.Gate.Enter(r.Context())
	if err != nil {
		return nil, err
	}
	defer leave()
	return e(r.Context(), headers, r, f)
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	translated := translate(err)
	e, ok := translated.(*oauthError) //nolint:errorlint // translate gives it bare
	if !ok {
		wire.Error(w, r, translated)
		return
	}
	request.Note(r.Context(), slog.String("code", e.code))
	if e.status >= http.StatusInternalServerError {
		request.Note(r.Context(), slog.String("cause", err.Error()))
	}
	if e.challenge != "" {
		w.Header().Set("WWW-Authenticate", e.challenge)
	}
	if e.retry != nil {
		wire.RetryAfter(w, e.retry.RetryAfter)
	}
	wire.JSON(w, r, e.status, errorBody{Error: e.code, Description: e.description})
}

type errorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// authenticate tells which client calls.
func (h *Handler) authenticate(ctx context.Context, p presented,
	check func(ctx context.Context, clientID string, presented secret.Value, source string) (*token.Entry, error),
) (*token.Entry, error) {
	return check(ctx, p.clientID, p.secret, request.From(ctx).SourceIP())
}

// noteClient puts the client into the log line.
func noteClient(ctx context.Context, e *token.Entry) {
	request.Note(ctx, slog.String("agent", e.AgentID), slog.String("organization", e.OrganizationID))
}

// denied records why a client was refused, and gives the error to answer with:
// a refusal that cannot be recorded is not given.
func (h *Handler) denied(ctx context.Context, action audit.Action, clientID string, err error) error {
	denial, ok := asDenial(err)
	if !ok {
		return err
	}
	request.Note(ctx, slog.String("denied", denial.Reason))
	if denial.Reason == token.ReasonCanary {
		if failed := h.cfg.Canaries.CanaryUsed(ctx, request.Origin(ctx), denial.Entry); failed != nil {
			return failed
		}
	}
	tenant, about := organization.DefaultID(), uuid.Nil
	if denial.Entry != nil {
		noteClient(ctx, denial.Entry)
		tenant, about = denial.Entry.Agent.OrganizationID, denial.Entry.Agent.ID
	}
	event := request.Origin(ctx).Event(h.cfg.Now(), tenant, action, audit.Target{Type: audit.TypeAgent, ID: claimed(clientID)}).
		About(about).Deny(denial.Reason)
	if failed := h.cfg.Denials.Deny(ctx, event); failed != nil {
		return failed
	}
	return err
}

// claimed gives what a client says it is, if that could be an agent at all.
func claimed(clientID string) string {
	id, err := uuid.Parse(clientID)
	if err != nil {
		return ""
	}
	return id.String()
}

// refuse records that a known agent asked for what it may not have.
func (h *Handler) refuse(ctx context.Context, e *token.Entry, action audit.Action, reason string, d audit.Details) error {
	request.Note(ctx, slog.String("denied", reason))
	origin := request.Origin(ctx)
	origin.Actor = audit.Actor{Type: audit.TypeAgent, ID: e.AgentID}
	event := origin.Event(h.cfg.Now(), e.Agent.OrganizationID, action, e.Agent.Target()).About(e.Agent.ID).Deny(reason).With(d)
	return h.cfg.Denials.Deny(ctx, event)
}

// limited fails with RATE_LIMITED where the client or its tenant has had enough, and
// tells in the headers what is left.
func (h *Handler) limited(ctx context.Context, headers http.Header, e *token.Entry) error {
	own := h.cfg.Clients.Take(ctx, e.AgentID, 0)
	wire.RateLimit(headers, "client", own)
	if err := own.Err(); err != nil {
		return err
	}
	o, err := h.cfg.Organizations.Organization(ctx, e.Agent.OrganizationID)
	if err != nil {
		return fault.UnavailableBecause(err)
	}
	if o.TokenRatePerMinute == nil {
		return nil
	}
	shared := h.cfg.Tenants.Take(ctx, o.ID.String(), *o.TokenRatePerMinute)
	wire.RateLimit(headers, "organization", shared)
	return shared.Err()
}
