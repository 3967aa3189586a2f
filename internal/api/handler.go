package api

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// Config is what the management API needs.
type Config struct {
	Organizations *organization.Service
	Agents        *agent.Service
	Credentials   *credential.Service
	Log           *audit.Log
	Denials       *audit.Folder
	Verifier      *token.Verifier
	Now           func() time.Time
}

// Handler serves the management API.
type Handler struct{ cfg Config }

// New makes the handler.
func New(cfg Config) *Handler { return &Handler{cfg: cfg} }

// Route is one operation.
type Route struct {
	Method, Path string
	Handler      http.HandlerFunc
}

// call is a request whose caller is known, and the tenant it is about.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	by     policy.Caller
	tenant uuid.UUID
	query  *query
}

// operation gives what to answer, or an error.
type operation func(ctx context.Context, c call) (reply, error)

// reply writes itself.
type reply func(w http.ResponseWriter, r *http.Request)

// Routes lists the operations, each with the scope it needs.
func (h *Handler) Routes() []Route {
	route := func(method, path, needed string, o operation) Route {
		return Route{method, path, h.serve(needed, o)}
	}
	const agentPath, credentials = "/agents/{agentId}", "/agents/{agentId}/credentials"
	return []Route{
		route(http.MethodPost, "/agents", scope.AgentsWrite, h.createAgent),
		route(http.MethodGet, "/agents", scope.AgentsRead, h.listAgents),
		route(http.MethodGet, agentPath, scope.AgentsRead, h.getAgent),
		route(http.MethodPatch, agentPath, scope.AgentsWrite, h.patchAgent),
		route(http.MethodDelete, agentPath, scope.AgentsWrite, h.archiveAgent),
		route(http.MethodPost, agentPath+"/suspend", scope.AgentsWrite, h.move(h.cfg.Agents.Suspend)),
		route(http.MethodPost, agentPath+"/reactivate", scope.AgentsWrite, h.move(h.cfg.Agents.Reactivate)),
		route(http.MethodPost, agentPath+"/revoke", scope.AgentsWrite, h.move(h.cfg.Agents.Revoke)),
		route(http.MethodPost, credentials, scope.CredentialsWrite, h.createCredential),
		route(http.MethodGet, credentials, scope.AgentsRead, h.listCredentials),
		route(http.MethodPost, credentials+"/{credentialId}/rotate", scope.CredentialsWrite, h.rotateCredential),
		route(http.MethodDelete, credentials+"/{credentialId}", scope.CredentialsWrite, h.revokeCredential),
		route(http.MethodGet, "/audit/events", scope.AuditRead, h.listEvents),
		route(http.MethodGet, "/audit/events/{eventId}", scope.AuditRead, h.getEvent),
		route(http.MethodPost, "/organizations", scope.OrganizationsAdmin, h.createOrganization),
		route(http.MethodGet, "/organizations", scope.OrganizationsAdmin, h.listOrganizations),
		route(http.MethodGet, "/organizations/{organizationId}", scope.OrganizationsAdmin, h.getOrganization),
		route(http.MethodPatch, "/organizations/{organizationId}", scope.OrganizationsAdmin, h.patchOrganization),
	}
}

// serve finds out who calls, whether they may, and for which tenant, before the
// operation sees anything of the request.
func (h *Handler) serve(needed string, o operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		by, err := h.authenticate(ctx, r)
		if err == nil {
			err = h.authorize(ctx, r, by, needed)
		}
		var write reply
		if err == nil {
			write, err = h.inTenant(ctx, w, r, by, o)
		}
		if err != nil {
			h.refused(w, r, by, err)
			return
		}
		write(w, r)
	}
}

func (h *Handler) authenticate(ctx context.Context, r *http.Request) (policy.Caller, error) {
	unauthenticated := func(message string) error {
		return fault.New(fault.Unauthenticated, fault.CodeAuthentication, message)
	}
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return policy.Caller{}, unauthenticated("a bearer token is required")
	}
	scheme, raw, ok := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") {
		return policy.Caller{}, unauthenticated("one Authorization header with a bearer token is required")
	}
	by, err := h.cfg.Verifier.Caller(ctx, raw, request.Origin(ctx))
	if fault.As(err) == nil && err != nil {
		return policy.Caller{}, unauthenticated("the bearer token is not valid")
	}
	if err == nil {
		request.Note(ctx, slog.String("agent", by.AgentID.String()), slog.String("organization", by.OrganizationID.String()))
	}
	return by, err
}

func (h *Handler) authorize(_ context.Context, _ *http.Request, by policy.Caller, needed string) error {
	if needed == scope.OrganizationsAdmin && by.OrganizationID != organization.DefaultID() {
		return fault.MissingScope(needed)
	}
	return by.Require(needed)
}

// inTenant runs the operation in the caller's own organization, or, for who may
// reach across, in the one the query names.
func (h *Handler) inTenant(ctx context.Context, w http.ResponseWriter, r *http.Request, by policy.Caller, o operation) (reply, error) {
	q, err := readQuery(r)
	if err != nil {
		return nil, err
	}
	c := call{w: w, r: r, by: by, tenant: by.OrganizationID, query: q}
	if strings.HasPrefix(r.URL.Path, "/organizations") {
		return o(ctx, c)
	}
	if named := q.id("organizationId"); named != uuid.Nil && named != by.OrganizationID {
		if by.OrganizationID != organization.DefaultID() || !by.Scopes.Has(scope.OrganizationsAdmin) {
			return nil, fault.New(fault.NotFound, fault.CodeNotFound, "there is no such organization")
		}
		if _, err := h.cfg.Organizations.Get(ctx, named); err != nil {
			return nil, err
		}
		c.tenant = named
	}
	return o(ctx, c)
}

// refused records a refusal and answers with it. One that cannot be recorded is
// answered as the failure that it is.
func (h *Handler) refused(w http.ResponseWriter, r *http.Request, by policy.Caller, err error) {
	f := fault.As(err)
	if f != nil && (f.Kind == fault.Unauthenticated || f.Kind == fault.Forbidden) {
		reason, tenant, origin := "unauthenticated", organization.DefaultID(), request.Origin(r.Context())
		details := audit.Details{}.String("method", r.Method)
		if f.Kind == fault.Forbidden {
			reason, tenant, origin = "insufficient_scope", by.OrganizationID, by.Origin
			details = details.String("scope", f.Scope)
		}
		event := origin.Event(h.cfg.Now(), tenant, audit.AuthorizationDenied, audit.Target{Type: audit.TypeRequest, ID: bounded(r.URL.Path)}).
			About(by.AgentID).Deny(reason).With(details)
		if failed := h.cfg.Denials.Deny(r.Context(), event); failed != nil {
			err = failed
		}
	}
	wire.Error(w, r, err)
}

// bounded keeps what an event holds of a path small.
func bounded(path string) string {
	const most = 200
	if len(path) > most {
		return path[:most]
	}
	return path
}

// id gives a path parameter that must be a UUID.
func (c call) id(name string) (uuid.UUID, error) {
	id, ok := parseID(c.r.PathValue(name))
	if !ok {
		return uuid.Nil, fault.InvalidField(name, "uuid", name+" must be a UUID")
	}
	return id, nil
}

// plain begins an operation that takes path parameters and no query of its own.
func (c call) plain(names ...string) ([]uuid.UUID, error) {
	var all []uuid.UUID
	for _, name := range names {
		id, err := c.id(name)
		if err != nil {
			return nil, err
		}
		all = append(all, id)
	}
	return all, c.query.err()
}

func answer[T any](status int, value T) reply {
	return func(w http.ResponseWriter, r *http.Request) { wire.JSON(w, r, status, value) }
}

func noContent(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
