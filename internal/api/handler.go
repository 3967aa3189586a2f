package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/idempotency"
	"git.sentryagent.ai/sentryagent-idp/internal/leak"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/revocation"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// Config is what the management API needs.
type Config struct {
	Organizations *organization.Service
	Agents        *agent.Service
	Credentials   *credential.Service
	Rotation      *credential.Rotation
	Retirement    *credential.Retirement
	Leaks         *leak.Responder
	// ReporterKeys are those that reports of leaks are signed with.
	ReporterKeys leak.Keys
	Revocations  *revocation.Service
	Log          *audit.Log
	Denials      *audit.Folder
	Transparency *transparency.Log
	Verifier     Verifier
	Claims       idempotency.Store
	// Version is the product's own, which exports tell.
	Version string
	Now     func() time.Time
}

// Verifier tells who presents a token.
type Verifier interface {
	// Caller fails with token.ErrInactive where the token does not hold.
	Caller(ctx context.Context, raw string, origin audit.Origin) (policy.Caller, error)
}

// Handler serves the management API.
type Handler struct {
	cfg     Config
	imports *places
}

// New makes the handler.
func New(cfg Config) *Handler { return &Handler{cfg: cfg, imports: newPlaces()} }

// Route is one operation.
type Route struct {
	Method, Path string
	Handler      http.HandlerFunc

	// scope is what the caller's token must carry; where it is empty nobody needs one.
	scope string
	run   operation
	// global says that it is about organizations and not inside one.
	global bool
}

// Public reports whether the operation asks nobody for a token.
func (r Route) Public() bool { return r.scope == "" }

// operation gives what to answer, or an error.
type operation func(ctx context.Context, c call) (reply, error)

// reply writes itself.
type reply func(w http.ResponseWriter, r *http.Request)

// Routes lists the operations, each with the scope it needs.
func (h *Handler) Routes() []Route {
	const (
		agents, agentPath = "/agents", "/agents/{agentId}"
		credentials       = agentPath + "/credentials"
		credentialPath    = credentials + "/{credentialId}"
		policies          = "/rotation-policies"
		revocations       = "/revocations"
		revocationPath    = "/revocations/{revocationId}"
		organizations     = "/organizations"
		organizationPath  = "/organizations/{organizationId}"
	)
	routes := []Route{
		{Method: http.MethodPost, Path: agents, scope: scope.AgentsWrite, run: h.createAgent},
		{Method: http.MethodGet, Path: agents, scope: scope.AgentsRead, run: h.listAgents},
		{Method: http.MethodPost, Path: agents + "/import", scope: scope.AgentsWrite, run: h.importAgents},
		{Method: http.MethodGet, Path: agents + "/export", scope: scope.AgentsRead, run: h.exportAgents},
		{Method: http.MethodGet, Path: agentPath, scope: scope.AgentsRead, run: h.getAgent},
		{Method: http.MethodPatch, Path: agentPath, scope: scope.AgentsWrite, run: h.patchAgent},
		{Method: http.MethodDelete, Path: agentPath, scope: scope.AgentsWrite, run: h.archiveAgent},
		{Method: http.MethodPost, Path: agentPath + "/suspend", scope: scope.AgentsWrite, run: h.move(h.cfg.Agents.Suspend)},
		{Method: http.MethodPost, Path: agentPath + "/reactivate", scope: scope.AgentsWrite, run: h.move(h.cfg.Agents.Reactivate)},
		{Method: http.MethodPost, Path: agentPath + "/revoke", scope: scope.AgentsWrite, run: h.move(h.cfg.Agents.Revoke)},
		{Method: http.MethodPost, Path: credentials, scope: scope.CredentialsWrite, run: h.createCredential},
		{Method: http.MethodGet, Path: credentials, scope: scope.AgentsRead, run: h.listCredentials},
		{Method: http.MethodPost, Path: credentialPath + "/rotate", scope: scope.CredentialsWrite, run: h.rotateCredential},
		{Method: http.MethodGet, Path: credentialPath + "/uses", scope: scope.AgentsRead, run: h.listUses},
		{Method: http.MethodPost, Path: credentialPath + "/brownout", scope: scope.CredentialsWrite, run: h.brownOut},
		{Method: http.MethodPost, Path: credentialPath + "/retire", scope: scope.CredentialsWrite, run: h.retire},
		{Method: http.MethodDelete, Path: credentialPath, scope: scope.CredentialsWrite, run: h.revokeCredential},
		{Method: http.MethodGet, Path: "/credentials", scope: scope.AgentsRead, run: h.listExpiring},
		{Method: http.MethodGet, Path: policies, scope: scope.AgentsRead, run: h.listPolicies},
		{Method: http.MethodPut, Path: policies + "/{agentType}", scope: scope.CredentialsWrite, run: h.setPolicy},
		{Method: http.MethodDelete, Path: policies + "/{agentType}", scope: scope.CredentialsWrite, run: h.removePolicy},
		{Method: http.MethodPost, Path: "/secrets/leaked", run: h.reportLeaks, global: true},
		{Method: http.MethodPost, Path: "/secrets/lookup", scope: scope.AgentsRead, run: h.lookUpSecrets},
		{Method: http.MethodPost, Path: revocations, scope: scope.AgentsWrite, run: h.startRevocation},
		{Method: http.MethodGet, Path: revocations, scope: scope.AgentsRead, run: h.listRevocations},
		{Method: http.MethodGet, Path: revocationPath, scope: scope.AgentsRead, run: h.getRevocation},
		{Method: http.MethodPost, Path: revocationPath + "/undo", scope: scope.AgentsWrite, run: h.undoRevocation},
		{Method: http.MethodGet, Path: "/audit/events", scope: scope.AuditRead, run: h.listEvents},
		{Method: http.MethodGet, Path: "/audit/events/{eventId}", scope: scope.AuditRead, run: h.getEvent},
		{Method: http.MethodGet, Path: "/audit/events/{eventId}/proof", scope: scope.AuditRead, run: h.proveEvent},
		{Method: http.MethodGet, Path: "/audit/export", scope: scope.AuditRead, run: h.exportEvents},
		{Method: http.MethodGet, Path: "/audit/checkpoint", run: h.checkpoint, global: true},
		{Method: http.MethodGet, Path: "/audit/key", run: h.checkpointKey, global: true},
		{Method: http.MethodGet, Path: "/audit/consistency", run: h.proveConsistency, global: true},
		{Method: http.MethodGet, Path: "/audit/tile/{level}/{index...}", run: h.tile, global: true},
		{Method: http.MethodGet, Path: "/audit/tile/entries/{index...}", scope: scope.OrganizationsAdmin, run: h.entries, global: true},
		{Method: http.MethodPost, Path: organizations, scope: scope.OrganizationsAdmin, run: h.createOrganization, global: true},
		{Method: http.MethodGet, Path: organizations, scope: scope.OrganizationsAdmin, run: h.listOrganizations, global: true},
		{Method: http.MethodGet, Path: organizationPath, scope: scope.OrganizationsAdmin, run: h.getOrganization, global: true},
		{Method: http.MethodPatch, Path: organizationPath, scope: scope.OrganizationsAdmin, run: h.patchOrganization, global: true},
	}
	for i, route := range routes {
		routes[i].Handler = h.serve(route)
	}
	return routes
}

// serve finds out who calls and whether they may, before the operation sees
// anything of the request.
func (h *Handler) serve(route Route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, receipt := audit.WithReceipt(r.Context())
		var by policy.Caller
		var err error
		if !route.Public() {
			if by, err = h.authenticate(ctx, r); err == nil {
				err = authorize(by, route.scope)
			}
		}
		var write reply
		if err == nil {
			write, err = h.run(ctx, w, r, by, route)
		}
		if err != nil {
			h.refused(w, r, by, err)
			return
		}
		if id := receipt.ID(); id != uuid.Nil {
			w.Header().Set("Audit-Event-Id", id.String())
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
	if errors.Is(err, token.ErrInactive) {
		return policy.Caller{}, unauthenticated("the bearer token is not valid")
	}
	if err == nil {
		request.Note(ctx, slog.String("agent", by.AgentID.String()), slog.String("organization", by.OrganizationID.String()))
	}
	return by, err
}

func authorize(by policy.Caller, needed string) error {
	if needed == scope.OrganizationsAdmin && by.OrganizationID != organization.DefaultID() {
		return fault.MissingScope(needed)
	}
	return by.Require(needed)
}

// run runs the operation in the caller's own organization, or in the one that the
// query names.
func (h *Handler) run(ctx context.Context, w http.ResponseWriter, r *http.Request, by policy.Caller, route Route) (reply, error) {
	found := &findings{}
	q, err := readQuery(r, found)
	if err != nil {
		return nil, err
	}
	c := call{findings: found, w: w, r: r, by: by, named: by.OrganizationID, query: q, organizations: h.cfg.Organizations}
	if !route.global {
		if named := q.id("organizationId"); named != uuid.Nil {
			c.named = named
		}
	}
	return route.run(ctx, c)
}

// refused records a refusal and answers with it. One that cannot be recorded is
// answered as the failure that it is.
func (h *Handler) refused(w http.ResponseWriter, r *http.Request, by policy.Caller, err error) {
	if failed := h.deny(r.Context(), r, by, err); failed != nil {
		err = failed
	}
	wire.Error(w, r, err)
}

// deny records an error that is a refusal.
func (h *Handler) deny(ctx context.Context, r *http.Request, by policy.Caller, err error) error {
	reason, tenant, origin := "", by.OrganizationID, by.Origin
	details := audit.Details{}.String("method", r.Method)
	switch f := fault.As(err); {
	case errors.Is(err, errForeign):
		reason = "foreign_organization"
		details = details.String("organizationId", r.URL.Query().Get("organizationId"))
	case f != nil && f.Kind == fault.Forbidden:
		reason = "insufficient_scope"
		details = details.String("scope", f.Scope)
	case f != nil && f.Kind == fault.Unauthenticated:
		reason, tenant, origin = "unauthenticated", organization.DefaultID(), request.Origin(ctx)
	}
	if reason == "" {
		return nil
	}
	event := origin.Event(h.cfg.Now(), tenant, audit.AuthorizationDenied, audit.Target{Type: audit.TypeRequest, ID: bounded(r.URL.Path)}).
		About(by.AgentID).Deny(reason).With(details)
	return h.cfg.Denials.Deny(ctx, event)
}

// bounded keeps what an event holds of a path small.
func bounded(path string) string {
	const most = 200
	if len(path) > most {
		return path[:most]
	}
	return path
}

func answer[T any](status int, value T) reply {
	return func(w http.ResponseWriter, r *http.Request) { wire.JSON(w, r, status, value) }
}

func noContent(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
