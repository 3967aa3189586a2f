package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// ErrRefused says that a fetch was not made, because of where it would have gone.
var ErrRefused = errors.New("outbound: refused")

// ErrTooLarge says that an answer was longer than its bound.
var ErrTooLarge = errors.New("outbound: the answer is too long")

const (
	defaultTimeout = 10 * time.Second
	defaultMaxBody = 1 << 20
	dialTimeout    = 5 * time.Second
	maxHeader      = 32 << 10
	maxIdle        = 64
	idleTimeout    = 90 * time.Second
)

// Config says where a client may go. The zero value goes to public addresses by
// https alone.
type Config struct {
	// Allow are networks that are dialled though they are not public. Loopback,
	// link-local, metadata and multicast addresses stay refused.
	Allow []netip.Prefix
	// Loopback says that URLs are the operator's own: those whose host is localhost
	// or a loopback address reach this machine. It is not for URLs of tenants.
	Loopback bool
	// Timeout bounds one fetch, from the name's resolution to the last byte; 10 s
	// where it is 0.
	Timeout time.Duration
	// MaxBody bounds an answer's body, in bytes; 1 MiB where it is 0.
	MaxBody int64
	// RootCAs are the authorities believed; the system's where it is nil.
	RootCAs *x509.CertPool
	// Resolver resolves names; the system's where it is nil.
	Resolver *net.Resolver
}

// Client fetches. It is safe for use by several goroutines.
type Client struct {
	http    *http.Client
	guard   guard
	maxBody int64
}

// Response is an answer, read whole.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// New makes a client.
func New(cfg Config) *Client {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = defaultMaxBody
	}
	c := &Client{guard: newGuard(cfg.Allow, cfg.Loopback), maxBody: cfg.MaxBody}
	c.http = &http.Client{
		Timeout: cfg.Timeout,
		// An answer that points elsewhere is an answer; who wants to go there gives
		// the URL.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would resolve and dial unjudged
			DialContext:            c.dialer(cfg.Resolver, min(cfg.Timeout, dialTimeout)),
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs},
			TLSHandshakeTimeout:    min(cfg.Timeout, dialTimeout),
			ResponseHeaderTimeout:  cfg.Timeout,
			ExpectContinueTimeout:  time.Second,
			MaxResponseHeaderBytes: maxHeader,
			MaxIdleConns:           maxIdle,
			IdleConnTimeout:        idleTimeout,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
		},
	}
	return c
}

// dialer dials what the guard lets pass. The address is judged between its
// resolution and the connection, so that it is the one that is dialled.
func (c *Client) dialer(resolver *net.Resolver, timeout time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		d := &net.Dialer{
			Timeout: timeout, Resolver: resolver,
			ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
				if network != "tcp4" && network != "tcp6" {
					return fmt.Errorf("%w: %s is no network for it", ErrRefused, network)
				}
				resolved, err := netip.ParseAddrPort(address)
				if err != nil {
					return fmt.Errorf("%w: %w", ErrRefused, err)
				}
				return c.guard.check(host, resolved.Addr())
			},
		}
		return d.DialContext(ctx, network, address)
	}
}

// Check says whether a URL may be fetched, as far as the URL itself tells: the
// addresses of a name are judged when it is dialled. It gives ErrRefused.
func (c *Client) Check(u *url.URL) error {
	host := u.Hostname()
	addr, err := netip.ParseAddr(host)
	literal := err == nil
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%w: the scheme must be https", ErrRefused)
	case u.Opaque != "" || host == "":
		return fmt.Errorf("%w: the URL has no host", ErrRefused)
	case u.User != nil:
		return fmt.Errorf("%w: the URL must not hold a user or password", ErrRefused)
	case strings.Contains(host, "%"):
		return fmt.Errorf("%w: the host must not have a zone", ErrRefused)
	case !literal && looksNumeric(host):
		return fmt.Errorf("%w: the host %q is a number and no address", ErrRefused, host)
	}
	if literal {
		if err := c.guard.check(host, addr); err != nil {
			return err
		}
	}
	if u.Scheme == "https" || c.guard.loopback && isLoopback(host) || literal && c.guard.allowed(unwrap(addr)) {
		return nil
	}
	return fmt.Errorf("%w: the scheme must be https, but for loopback addresses of the operator and addresses in allowed networks", ErrRefused)
}

// Do makes one request and reads its answer whole. It follows no redirect: the answer
// is then the redirect itself. It gives ErrRefused where the request may not go where
// it would go, ErrTooLarge with the answer, but for its body, where that is longer than
// its bound, and the error of the network or the request's context.
func (c *Client) Do(req *http.Request) (*Response, error) {
	if err := c.Check(req.URL); err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req) //nolint:gosec // the address is judged by the dialer
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("outbound: reading the answer: %w", err)
	}
	if int64(len(body)) > c.maxBody {
		return &Response{Status: resp.StatusCode, Header: resp.Header}, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, c.maxBody)
	}
	return &Response{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}
