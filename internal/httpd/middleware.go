package httpd

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// maxURL bounds the path and query of a request as they were sent, in bytes.
const maxURL = 8 << 10

// Limiter bounds the requests of one source address.
type Limiter interface {
	// Take takes one token from the key's bucket, of the limiter's own size where
	// perMinute is zero.
	Take(ctx context.Context, key string, perMinute int64) request.Budget
}

// Config is what the middleware needs.
type Config struct {
	Logger *slog.Logger
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// CORSOrigins may read answers from a browser; empty turns CORS off.
	CORSOrigins []string
	Sources     Limiter
	// TLS says that clients reach the server by https, so that HSTS makes sense.
	TLS bool
	Now func() time.Time
}

// Chain puts the middleware around a handler. The order is that of the list:
// the first sees a request first and its answer last.
func Chain(cfg Config, inner http.Handler) http.Handler {
	chain := []func(http.Handler) http.Handler{
		cfg.identify, cfg.logLine, cfg.recoverPanic, cfg.headers, cfg.cors, cfg.limitSource, cfg.bounds,
	}
	for _, wrap := range slices.Backward(chain) {
		inner = wrap(inner)
	}
	return inner
}

// requestTimeout ends what a handler waits for, before its answer could no longer
// be written.
const requestTimeout = writeTimeout - 5*time.Second

// identify gives the request an id and a deadline, and finds out where it comes
// from.
func (cfg Config) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("X-Request-Id")
		if !validRequestID(id) {
			id = audit.NewID(cfg.Now()).String()
		}
		w.Header().Set("X-Request-Id", id)
		info := &request.Info{ID: id, Source: cfg.source(r)}
		ctx, cancel := context.WithTimeout(request.With(r.Context(), info), requestTimeout)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func validRequestID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return id != "" && len(id) <= 64
}

// source gives the client's address: the peer's, or behind trusted proxies the
// last address in X-Forwarded-For that is not one of them.
func (cfg Config) source(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	if !cfg.trusted(addr) {
		return addr
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !cfg.trusted(addr) {
			break
		}
		next, ok := parseHop(strings.TrimSpace(hop))
		if !ok {
			break
		}
		addr = next.Unmap().WithZone("")
	}
	return addr
}

// parseHop reads an address as proxies write it, some with the port.
func parseHop(hop string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(hop); err == nil {
		return addr, true
	}
	with, err := netip.ParseAddrPort(hop)
	return with.Addr(), err == nil
}

func (cfg Config) trusted(addr netip.Addr) bool {
	return slices.ContainsFunc(cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// logLine writes one line per request, of what was noted on the way. Neither
// headers nor bodies nor query values are in it.
func (cfg Config) logLine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := cfg.Now()
		rec := &recorder{ResponseWriter: w}
		info := request.From(r.Context())
		aborted := true
		defer func() { //nolint:contextcheck // the request carries it
			if rec.status == 0 && !aborted {
				rec.status = http.StatusOK // what net/http sends where nothing was written
			}
			level := slog.LevelInfo
			if aborted || rec.status >= http.StatusInternalServerError {
				level = slog.LevelError
			}
			if !cfg.Logger.Enabled(r.Context(), level) {
				return
			}
			attrs := append(make([]slog.Attr, 0, 16),
				slog.String("requestId", info.ID), slog.String("method", r.Method), slog.String("route", r.Pattern),
				slog.Int("status", rec.status), slog.Int64("bytes", rec.bytes), slog.String("source", info.SourceIP()),
				slog.Int64("durationMicros", cfg.Now().Sub(started).Microseconds()),
			)
			if aborted {
				attrs = append(attrs, slog.Bool("aborted", true))
			}
			cfg.Logger.LogAttrs(r.Context(), level, "request", append(attrs, info.Attrs()...)...)
		}()
		next.ServeHTTP(rec, r)
		aborted = false
	})
}

// recoverPanic turns a panic into INTERNAL; the stack goes to the log alone. An
// answer that has begun is broken off, as nothing else tells the client.
func (cfg Config) recoverPanic(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { //nolint:contextcheck // the request carries it
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				request.Note(r.Context(), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
				if rec, ok := w.(*recorder); ok && rec.status != 0 {
					panic(http.ErrAbortHandler)
				}
				wire.Error(w, r, fmt.Errorf("panic: %v", p))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// headers sets what is safe for every answer; a handler may set its own.
func (cfg Config) headers(next http.Handler) http.Handler {
	safe := http.Header{
		"Cache-Control":                {"no-store"},
		"Content-Security-Policy":      {"default-src 'none'; frame-ancestors 'none'"},
		"Cross-Origin-Resource-Policy": {"same-origin"},
		"Referrer-Policy":              {"no-referrer"},
		"X-Content-Type-Options":       {"nosniff"},
		"X-Frame-Options":              {"DENY"},
	}
	if cfg.TLS {
		safe.Set("Strict-Transport-Security", "max-age=31536000")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), safe) // the values are shared: whoever sets or adds one gets a list of their own
		next.ServeHTTP(w, r)
	})
}

// cors lets browsers of the configured origins read answers, and nobody else's.
func (cfg Config) cors(next http.Handler) http.Handler {
	if len(cfg.CORSOrigins) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if !slices.Contains(cfg.CORSOrigins, origin) {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "ETag, Location, Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate, X-Request-Id")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Idempotency-Key, If-Match, X-Request-Id")
			h.Set("Access-Control-Max-Age", "600")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// limitSource bounds how much one address may ask. Who owns a /64 of IPv6 owns
// all of it. Health checks are not counted, so that a busy node is not taken for
// a dead one.
func (cfg Config) limitSource(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case fullPath, livePath, readyPath:
			next.ServeHTTP(w, r)
			return
		}
		d := cfg.Sources.Take(r.Context(), audit.Network(request.From(r.Context()).Source), 0)
		wire.RateLimit(w.Header(), "source", d)
		if !d.Allowed {
			limited(w, r, d.RetryAfter)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func limited(w http.ResponseWriter, r *http.Request, wait time.Duration) {
	wire.Error(w, r, &fault.Error{
		Kind: fault.RateLimited, Code: fault.CodeRateLimited, Message: "too many requests from this address", RetryAfter: wait,
	})
}

// bounds refuses what is too long to be anything we serve.
func (cfg Config) bounds(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.RequestURI) > maxURL {
			wire.Error(w, r, fault.New(fault.TooLarge, fault.CodePayloadTooLarge, "the URL must be at most 8 KiB"))
			return
		}
		next.ServeHTTP(w, r)
	})
}
