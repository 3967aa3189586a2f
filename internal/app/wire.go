package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/api"
	"git.sentryagent.ai/sentryagent-idp/internal/apidocs"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/httpd"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/limit"
	"git.sentryagent.ai/sentryagent-idp/internal/oauth"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/store/postgres"
	"git.sentryagent.ai/sentryagent-idp/internal/store/sqlite"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
)

// Bounds on what is remembered in memory.
const (
	maxBuckets         = 100_000
	maxOrganizations   = 10_000
	organizationMaxAge = 2 * time.Second
)

// App is the product without its listener: the registry, the keys and the
// record, on one database.
type App struct {
	Agents      *agent.Service
	Credentials *credential.Service
	Ring        *keys.Ring

	cfg    *config.Config
	logger *slog.Logger
	store  database
	hasher *credential.Hasher
	now    func() time.Time
}

// Open opens the database and makes the first signing key where there is none. The
// embedded database is migrated to the newest schema; any other must have it. Close must be called in the end. now is
// the clock of everything.
func Open(ctx context.Context, cfg *config.Config, logger *slog.Logger, now func() time.Time) (*App, error) {
	root, err := rootKeys(cfg)
	if err != nil {
		return nil, err
	}
	s, err := openStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	ring := keys.NewRing(keys.Config{Store: s, Root: root, Alg: cfg.Alg, MaxTokenTTL: cfg.MaxTokenTTL, Now: now})
	if err := ring.Ensure(ctx, audit.System("agentidp")); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	hasher := credential.NewHasher(root, cfg.SecretHasher, now)
	minter := credential.NewMinter(hasher, now)
	return &App{
		Agents: agent.NewService(s, minter, cfg.MaxTokenTTL, now), Credentials: credential.NewService(s, minter, now), Ring: ring,
		cfg: cfg, logger: logger, store: s, hasher: hasher, now: now,
	}, nil
}

// database is what the product needs of a store, whatever the engine.
type database interface {
	agent.Store
	audit.Store
	credential.Store
	keys.Store
	organization.Store
	token.Source
	token.RevocationStore
	// Maintain does what time makes due, such as forgetting expired revocations. It
	// may be called as often as one likes, by any number of nodes.
	Maintain(ctx context.Context, now time.Time) error
	// Ping reports whether the database answers.
	Ping(ctx context.Context) error
	Close() error
}

func openStore(ctx context.Context, cfg *config.Config) (database, error) {
	if path, ok := cfg.Embedded(); ok {
		return sqlite.Open(ctx, path)
	}
	return postgres.Open(ctx, cfg.DatabaseURL)
}

// Migrate brings the database to the newest schema.
func Migrate(ctx context.Context, cfg *config.Config) error {
	if path, ok := cfg.Embedded(); ok {
		s, err := sqlite.Open(ctx, path) // opening is enough
		if err != nil {
			return err
		}
		return s.Close()
	}
	return postgres.Migrate(ctx, cfg.DatabaseURL, cfg.DatabaseRole)
}

// Close closes the database.
func (a *App) Close() error { return a.store.Close() }

// server is what serves requests for a known issuer.
type server struct {
	http   *httpd.Server
	log    *audit.Log
	folder *audit.Folder
}

// serverFor makes everything between the listener and the store.
func (a *App) serverFor(issuer, version string) (*server, error) {
	log := audit.NewLog(a.store, audit.Config{})
	folder := audit.NewFolder(log, a.now, a.logger)
	directory, err := token.NewDirectory(a.store, a.cfg.CacheEntries)
	if err != nil {
		return nil, fmt.Errorf("making the directory: %w", err)
	}
	verifier, err := token.NewVerifier(token.VerifierConfig{
		Issuer: issuer, Ring: a.Ring, Directory: directory, Revocations: a.store, CacheEntries: a.cfg.CacheEntries, Now: a.now,
	})
	if err != nil {
		return nil, fmt.Errorf("making the verifier: %w", err)
	}
	tenants, err := organization.NewCached(a.store, maxOrganizations, organizationMaxAge)
	if err != nil {
		return nil, fmt.Errorf("making the cache of organizations: %w", err)
	}
	sources, clients, budgets := a.limits()
	oauthHandler := oauth.New(oauth.Config{
		Issuer: issuer, Authenticator: token.NewAuthenticator(directory, a.hasher, a.store, a.now),
		Tokens:   token.NewIssuer(token.IssuerConfig{Issuer: issuer, TTL: a.cfg.TokenTTL, Ring: a.Ring, Log: log, Now: a.now}),
		Verifier: verifier, Revocations: a.store, Ring: a.Ring, Log: log, Denials: folder, Decider: policy.Capabilities{},
		Organizations: tenants, Clients: clients, Tenants: budgets, Now: a.now,
	})
	apiHandler := api.New(api.Config{
		Organizations: organization.NewService(a.store, a.now), Agents: a.Agents, Credentials: a.Credentials,
		Log: log, Denials: folder, Verifier: verifier, Now: a.now,
	})
	health := httpd.NewHealth(version, httpd.Check{Name: "database", Probe: a.store.Ping})
	handler := httpd.Chain(httpd.Config{
		Logger: a.logger, TrustedProxies: a.cfg.TrustedProxies, CORSOrigins: a.cfg.CORSOrigins, Sources: sources,
		TLS: strings.HasPrefix(issuer, "https:"), Now: a.now,
	}, httpd.Router(routes(oauthHandler, apiHandler, health)))
	return &server{http: httpd.NewServer(httpd.ServerConfig{
		Handler: handler, Health: health, Delay: a.cfg.ShutdownDelay, Drain: a.cfg.ShutdownTimeout, Logger: a.logger,
	}), log: log, folder: folder}, nil
}

// routes is every endpoint there is.
func routes(o *oauth.Handler, a *api.Handler, h *httpd.Health) []httpd.Route {
	all := h.Routes()
	for _, r := range o.Routes() {
		all = append(all, httpd.Route{Method: r.Method, Path: r.Path, Handler: r.Handler})
	}
	for _, r := range a.Routes() {
		all = append(all, httpd.Route{Method: r.Method, Path: r.Path, Handler: r.Handler})
	}
	for path, handler := range apidocs.Handlers() {
		all = append(all, httpd.Route{Method: http.MethodGet, Path: path, Handler: handler})
	}
	return all
}

// limiter is what the edges need of a set of buckets.
type limiter interface {
	httpd.Limiter
	oauth.Limiter
}

// limits gives the buckets of source addresses, clients and tenants.
func (a *App) limits() (sources, clients, tenants limiter) {
	if !a.cfg.RateLimits {
		return limit.Off{}, limit.Off{}, limit.Off{}
	}
	perClient := int64(a.cfg.ClientLimit)
	return limit.New(int64(a.cfg.SourceLimit), maxBuckets, a.now), limit.New(perClient, maxBuckets, a.now), limit.New(perClient, maxBuckets, a.now)
}
