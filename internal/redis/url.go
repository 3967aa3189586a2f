package redis

import (
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// ErrURL says what a Redis URL looks like. It does not repeat the one that was
// given, which may hold a password.
var ErrURL = errors.New("must be redis://USER:PASSWORD@HOST:PORT/NUMBER, rediss:// for TLS, redis+cluster://HOST,HOST or redis+sentinel://HOST,HOST/MASTER")

// Bounds on one connection. A command waits far less for its answer: see patience.
const (
	dialTimeout  = time.Second
	writeTimeout = 2 * time.Second
	// bufferSize is plenty: what is sent and received is short.
	bufferSize = 64 << 10
	// refreshSentinels finds a new master also where the news of it was missed.
	refreshSentinels = 5 * time.Second
)

// options reads a URL. It fails with ErrURL.
func options(from secret.Value) (rueidis.ClientOption, error) {
	scheme, remote, _ := strings.Cut(from.Reveal(), "://")
	authority, path, _ := strings.Cut(remote, "/")
	at := strings.LastIndex(authority, "@")
	o := rueidis.ClientOption{
		// What fails is decided here and now; asking again is for the next request.
		DisableRetry: true, DisableCache: true, PipelineMultiplex: -1, ConnWriteTimeout: writeTimeout,
		ReadBufferEachConn: bufferSize, WriteBufferEachConn: bufferSize,
	}
	o.Dialer.Timeout = dialTimeout
	var err error
	if at >= 0 {
		if o.Username, o.Password, err = user(authority[:at]); err != nil {
			return o, err
		}
	}
	kind, secure := strings.CutPrefix(scheme, "rediss")
	if !secure {
		kind = strings.TrimPrefix(scheme, "redis")
	} else {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if o.InitAddress, err = addresses(authority[at+1:], kind == "+sentinel"); err != nil {
		return o, err
	}
	return o, place(&o, scheme, kind, path)
}

// place says what the addresses are of: one server, a cluster or sentinels.
func place(o *rueidis.ClientOption, scheme, kind, path string) error {
	switch {
	case scheme == kind: // no word for Redis before it
		return ErrURL
	case kind == "" && len(o.InitAddress) == 1:
		o.ForceSingleClient = true
		if path == "" {
			return nil
		}
		number, err := strconv.ParseUint(path, 10, 16)
		if err != nil {
			return ErrURL
		}
		o.SelectDB = int(number)
		return nil
	case kind == "+cluster" && path == "":
		return nil
	case kind == "+sentinel" && path != "" && !strings.ContainsAny(path, "/?#"):
		o.Sentinel = rueidis.SentinelOption{MasterSet: path, TLSConfig: o.TLSConfig, Dialer: o.Dialer, TopologyRefreshInterval: refreshSentinels}
		return nil
	}
	return ErrURL
}

func user(text string) (name, password string, err error) {
	name, password, _ = strings.Cut(text, ":")
	if name, err = url.PathUnescape(name); err != nil {
		return "", "", ErrURL
	}
	if password, err = url.PathUnescape(password); err != nil {
		return "", "", ErrURL
	}
	return name, password, nil
}

// addresses gives the hosts with their ports, by default those of Redis or of its
// sentinels.
func addresses(hosts string, sentinels bool) ([]string, error) {
	standard := "6379"
	if sentinels {
		standard = "26379"
	}
	var all []string
	for host := range strings.SplitSeq(hosts, ",") {
		u, err := url.Parse("redis://" + host)
		if err != nil || u.Host != host || u.Hostname() == "" {
			return nil, ErrURL
		}
		port := u.Port()
		if port == "" {
			port = standard
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, ErrURL
		}
		all = append(all, net.JoinHostPort(u.Hostname(), port))
	}
	return all, nil
}
