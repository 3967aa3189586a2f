package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/api"
	"git.sentryagent.ai/sentryagent-idp/internal/apidocs"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/httpd"
	"git.sentryagent.ai/sentryagent-idp/internal/idempotency"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/leak"
	"git.sentryagent.ai/sentryagent-idp/internal/limit"
	"git.sentryagent.ai/sentryagent-idp/internal/oauth"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/redis"
	"git.sentryagent.ai/sentryagent-idp/internal/revocation"
	"git.sentryagent.ai/sentryagent-idp/internal/store/postgres"
	"git.sentryagent.ai/sentryagent-idp/internal/store/sqlite"
	"git.sentryagent.ai/sentryagent-idp/internal/stream"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// How many OAuth requests are worked on at a time: enough for the committer to fill its
// batches, and few enough for an answer in time.
const (
	minPlaces     = 128
	placesPerCore = 64
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
	redis  *redis.Client // nil where nodes share nothing
	root   *keys.Root
	hasher *credential.Hasher
	now    func() time.Time

	changes   credential.Store // tells the other nodes of changes, where they share something
	rotator   *credential.Rotator
	schedule  *credential.Schedule
	instances *credential.Instances
	retention *audit.Retention
}

// Open opens the database and reads the signing keys; it makes none, as not every
// command that looks at a database is of the server whose keys these are. The
// embedded database is migrated to the newest schema; any other must have it. Close
// must be called in the end. now is the clock of everything.
func Open(ctx context.Context, cfg *config.Config, logger *slog.Logger, now func() time.Time) (*App, error) {
	s, err := openStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	root, err := rootOf(ctx, cfg, s)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	ring := keys.NewRing(keys.Config{Store: s, Root: root, Alg: cfg.Alg, MaxTokenTTL: cfg.MaxTokenTTL, Now: now})
	if err := ring.Load(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	shared, agents, credentials, err := share(cfg, s, now)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	hasher := credential.NewHasher(root, cfg.SecretHasher, now)
	minter := credential.NewMinter(hasher, now).Under(s)
	return &App{
		Agents: agent.NewService(agents, minter, cfg.MaxTokenTTL, now), Credentials: credential.NewService(credentials, minter, now), Ring: ring,
		cfg: cfg, logger: logger, store: s, redis: shared, root: root, hasher: hasher, now: now,
		changes: credentials, rotator: credential.NewRotator(credentials, minter, now), schedule: credential.NewSchedule(s, credentials, now), instances: credential.NewInstances(s),
		retention: audit.NewRetention(audit.RetentionConfig{Store: s, Days: cfg.AuditRetentionDays, Chunk: dropAtOnce(cfg), Logger: logger, Now: now}),
	}, nil
}

// errWrongFolder says that a secret made now would open nothing.
var errWrongFolder = errors.New("the database has signing keys, and nothing here holds the secret that opens them: set JWT_SECRET, or DATA_DIR to the server's")

// rootOf is rootKeys for this database: a secret is made only where there is no key
// that another one sealed.
func rootOf(ctx context.Context, cfg *config.Config, s keys.Store) (*keys.Root, error) {
	// The keys are read first: who made the first one had made the secret before.
	sealed, err := s.SigningKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the signing keys: %w", err)
	}
	if cfg.RootSecret.IsZero() && len(sealed) > 0 {
		if _, err := os.Stat(SecretPath(cfg)); errors.Is(err, fs.ErrNotExist) {
			return nil, errWrongFolder
		}
	}
	return rootKeys(cfg)
}

// share gives what nodes share, where there is Redis, and the stores: with it, they
// tell the other nodes of changes.
func share(cfg *config.Config, s database, now func() time.Time) (*redis.Client, agent.Store, credential.Store, error) {
	if cfg.RedisURL.IsZero() {
		return nil, s, s, nil
	}
	client, err := redis.Open(cfg.RedisURL, now)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("REDIS_URL: %w", err)
	}
	return client, redis.NewAgents(s, s, client), redis.NewCredentials(s, client), nil
}

// database is what the product needs of a store, whatever the engine.
type database interface {
	agent.Store
	audit.Store
	audit.RetentionStore
	credential.Store
	credential.RotationStore
	credential.ScheduleStore
	credential.InstanceStore
	idempotency.Store
	keys.Store
	organization.Store
	revocation.Store
	stream.Positions
	transparency.KeyStore
	transparency.Store
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

// Close closes the database, and the connection to Redis.
func (a *App) Close() error {
	if a.redis != nil {
		a.redis.Close()
	}
	return a.store.Close()
}

// Maintain does what time makes due in the database. Run calls it every minute.
func (a *App) Maintain(ctx context.Context) error { return a.store.Maintain(ctx, a.now()) }

// dropAtOnce is how many events one transaction drops, 0 for the default. The embedded
// database has one writer, which tokens wait for meanwhile: with so many, some tenths of
// a second.
func dropAtOnce(cfg *config.Config) int {
	if _, embedded := cfg.Embedded(); embedded {
		return 2_000
	}
	return 0
}

// Retain drops the events that are past their organization's retention, where the
// clocks can be trusted. Run calls it every hour; one call at a time.
func (a *App) Retain(ctx context.Context) error { return a.retention.Run(ctx) }

// Rotate does what time makes due of credentials: policies are applied, ends are told of,
// and what was rotated ends. Run calls it every ten seconds, on one node at a time.
func (a *App) Rotate(ctx context.Context) error { return a.schedule.Run(ctx) }

// NoteUses writes which instances used which credentials. Run calls it every ten seconds,
// on every node, and in the end.
func (a *App) NoteUses(ctx context.Context) error { return a.instances.Flush(ctx) }

// server is what serves requests for a known issuer.
type server struct {
	handler   http.Handler
	http      *httpd.Server
	log       *audit.Log
	folder    *audit.Folder
	sequencer *transparency.Sequencer
	streams   *stream.Streams
	runner    *revocation.Runner
	directory *token.Directory
	caches    *caches
}

// serverFor makes everything between the listener and the store.
func (a *App) serverFor(ctx context.Context, issuer, version string) (*server, error) {
	logKey, err := transparency.EnsureKey(ctx, a.store, a.root, transparency.Origin(issuer))
	if err != nil {
		return nil, err
	}
	witnesses, err := a.witnesses()
	if err != nil {
		return nil, err
	}
	sequencer := transparency.NewSequencer(transparency.SequencerConfig{Store: a.store, Key: logKey, Witnesses: witnesses, Logger: a.logger, Now: a.now})
	log, tree := audit.NewLog(a.store, audit.Config{}), transparency.NewLog(a.store, logKey)
	streams, err := a.streams(log, tree, sequencer.Leading, version)
	if err != nil {
		return nil, err
	}
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
	leaks := leak.New(leak.Config{
		Entries: a.store, Credentials: a.changes, Policies: a.store, Agents: a.Agents, Denials: folder, Hasher: a.hasher, Now: a.now,
	})
	sources, clients, budgets := a.limits()
	oauthHandler := oauth.New(oauth.Config{
		Issuer: issuer, Authenticator: token.NewAuthenticator(directory, a.hasher, a.store, a.now),
		Tokens:   token.NewIssuer(token.IssuerConfig{Issuer: issuer, TTL: a.cfg.TokenTTL, MaxTTL: a.cfg.MaxTokenTTL, Ring: a.Ring, Log: log, Now: a.now}),
		Verifier: verifier, Revocations: a.store, Ring: a.Ring, Log: log, Denials: folder, Decider: policy.Capabilities{},
		Organizations: tenants, Rotator: a.rotator, Canaries: leaks, Uses: a.instances, Gate: limit.NewGate(max(minPlaces, placesPerCore*runtime.GOMAXPROCS(0)), a.cfg.MaxConnections, a.now), Clients: clients, Tenants: budgets, Now: a.now,
	})
	runner := revocation.NewRunner(revocation.RunnerConfig{Store: a.store, Logger: a.logger, Now: a.now})
	apiHandler := api.New(api.Config{
		Organizations: organization.NewService(a.store, a.now), Agents: a.Agents, Credentials: a.Credentials, Rotation: credential.NewRotation(a.store, a.now),
		Retirement: credential.NewRetirement(a.changes, a.store, a.now), Leaks: leaks, ReporterKeys: a.cfg.ReporterKeys,
		Revocations: revocation.NewService(revocation.Config{
			Store: a.store, Issuer: issuer, Signers: a.Ring, Runner: runner, TokenTTL: a.cfg.TokenTTL, MaxTokenTTL: a.cfg.MaxTokenTTL, Now: a.now,
		}),
		Log: log, Denials: folder, Transparency: tree, Verifier: verifier, Claims: a.store, Version: version, Now: a.now,
	})
	health := httpd.NewHealth(version, a.checks(sequencer, streams)...)
	handler := httpd.Chain(httpd.Config{
		Logger: a.logger, TrustedProxies: a.cfg.TrustedProxies, CORSOrigins: a.cfg.CORSOrigins, Sources: sources,
		TLS: strings.HasPrefix(issuer, "https:"), Now: a.now,
	}, httpd.Router(routes(oauthHandler, apiHandler, health)))
	return &server{
		handler: handler,
		http: httpd.NewServer(httpd.ServerConfig{
			Handler: handler, Health: health, Delay: a.cfg.ShutdownDelay, Drain: a.cfg.ShutdownTimeout, Logger: a.logger,
		}), log: log, folder: folder, sequencer: sequencer, streams: streams, runner: runner, directory: directory,
		caches: &caches{logger: a.logger, directory: directory, verifier: verifier},
	}, nil
}

// checks is every dependency.
func (a *App) checks(sequencer *transparency.Sequencer, streams *stream.Streams) []httpd.Check {
	all := []httpd.Check{{Name: "database", Probe: a.store.Ping}, {Name: "transparency", Probe: sequencer.Health, Optional: true}}
	if a.cfg.Streams.Any() {
		all = append(all, httpd.Check{Name: "streams", Probe: streams.Probe, Optional: true})
	}
	if a.redis != nil {
		all = append(all, httpd.Check{Name: "redis", Probe: a.redis.Ping, Optional: true})
	}
	return all
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
	return a.buckets("source", a.cfg.SourceLimit), a.buckets("client", a.cfg.ClientLimit), a.buckets("tenant", a.cfg.ClientLimit)
}

// buckets are shared between the nodes where there is Redis.
func (a *App) buckets(name string, perMinute int) limiter {
	local := limit.New(int64(perMinute), maxBuckets, a.now)
	if a.redis == nil {
		return local
	}
	return redis.NewBuckets(a.redis, name, int64(perMinute), local)
}
