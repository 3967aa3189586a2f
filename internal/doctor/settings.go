package doctor

import (
	"context"
	"log/slog"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
)

// settings repeats what the server says when it refuses to start.
func settings(_ context.Context, s *state) ([]string, error) {
	if s.cfgErr == nil {
		return nil, nil
	}
	var f found
	for line := range strings.Lines(s.cfgErr.Error()) {
		if line = strings.TrimSpace(line); !strings.HasSuffix(line, "not valid:") {
			f.when(true, "%s", line)
		}
	}
	return f, nil
}

// longToken is how long a token may be good for that services verify offline.
const longToken = time.Hour

// production is what the server warns of when it starts, and what it does not.
func production(_ context.Context, s *state) ([]string, error) {
	if s.cfgErr != nil {
		return nil, errSettings
	}
	var f found
	for _, w := range s.cfg.Warnings() {
		// Whether it is backed up is looked at below.
		f.when(w != config.EmbeddedWarning, "%s", w)
	}
	f.when(s.cfg.LogLevel == slog.LevelDebug, "LOG_LEVEL is debug: the log grows by much that nobody reads; set it to info")
	f.when(s.cfg.TokenTTL > longToken, "TOKEN_TTL is %s: a service that verifies offline believes the token of a suspended agent for so long; set it to 1h or less", s.cfg.TokenTTL)
	for _, origin := range s.cfg.CORSOrigins {
		f.when(!strings.HasPrefix(origin, "https://") && !loopback(origin), "CORS_ORIGINS: pages of %s come in the clear, and who changes them calls the API", origin)
	}
	return f, nil
}

func loopback(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1" || u.Hostname() == "::1")
}

// rootSecret looks at what all other keys are derived from.
func rootSecret(_ context.Context, s *state) ([]string, error) {
	if s.cfgErr != nil {
		return nil, errSettings
	}
	var f found
	if !s.cfg.RootSecret.IsZero() {
		why := weakness(s.cfg.RootSecret.Reveal())
		f.when(why != "", "JWT_SECRET %s: who guesses it forges tokens; make another with: openssl rand -hex 32, and change it as docs/runbooks/key-compromise.md does", why)
		_, err := os.Stat(app.SecretPath(s.cfg))
		f.when(err == nil, "%s is left of the time before JWT_SECRET was set; nothing reads it: remove it once JWT_SECRET holds what it held, or another", app.SecretPath(s.cfg))
	}
	previous := s.cfg.RootSecretPrevious
	f.when(!previous.IsZero() && previous.Reveal() != s.cfg.RootSecret.Reveal(),
		"JWT_SECRET_PREVIOUS still opens what an older secret closed: end the change, as docs/runbooks/key-compromise.md does")
	return f, nil
}

// The least that a secret of random bytes has, whatever it is written in.
const (
	leastDifferent = 10
	leastBits      = 100
)

// weakness says what is wrong with a secret that is long enough; empty where nothing is.
func weakness(secret string) string {
	counts := map[rune]int{}
	n, steps := 0, 0
	last := rune(-1)
	for _, r := range secret {
		counts[r]++
		if n++; r == last+1 || r == last {
			steps++
		}
		last = r
	}
	bits := 0.0
	for _, count := range counts {
		bits -= float64(count) * math.Log2(float64(count)/float64(n))
	}
	switch {
	case repeats(secret):
		return "is one piece again and again"
	case len(counts) < leastDifferent:
		return "has hardly any different characters"
	case 2*steps > n:
		return "is mostly a sequence"
	case bits < leastBits:
		return "is not random enough"
	}
	return ""
}

// repeats says that a text is a shorter one, repeated.
func repeats(s string) bool {
	return len(s) > 1 && strings.Contains((s + s)[1:2*len(s)-1], s)
}

// files looks at who may read what is secret.
func files(_ context.Context, s *state) ([]string, error) {
	var f found
	private := s.Sources.SecretFiles()
	if s.Sources.DotEnv != "" && s.Sources.HoldsSecret() {
		private = append(private, s.Sources.DotEnv)
	}
	if s.cfg != nil {
		private = append(private, s.cfg.TLSKeyFile, s.cfg.Streams.SyslogKeyFile, app.SecretPath(s.cfg))
		if path, ok := s.embedded(); ok {
			private = append(private, path, path+"-wal", filepath.Dir(path))
		}
	}
	for _, path := range private {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if missing(err) {
			continue // whoever needs it says so
		}
		if err != nil {
			return f, err
		}
		mode := info.Mode().Perm()
		f.when(mode&0o007 != 0, "%s may be read or written by everybody (mode %04o): chmod o-rwx %s", path, mode, path)
		f.when(mode&0o020 != 0, "%s may be written by its group (mode %04o): chmod g-w %s", path, mode, path)
	}
	return f, nil
}

// proxies looks at whose word on a client's address is taken.
func proxies(_ context.Context, s *state) ([]string, error) {
	if s.cfgErr != nil {
		return nil, errSettings
	}
	const widest, widest6 = 8, 32
	var f found
	for _, p := range s.cfg.TrustedProxies {
		wide := p.Bits() < widest || p.Addr().Is6() && p.Bits() < widest6
		f.when(wide, "TRUSTED_PROXIES: %s is nearly everybody: any client can then say that it is another address, in the record and before the rate limit; name the proxies alone", p)
	}
	return f, nil
}

// upgrades looks at how a node leaves.
func upgrades(_ context.Context, s *state) ([]string, error) {
	if s.cfgErr != nil {
		return nil, errSettings
	}
	if _, one := s.embedded(); one {
		return nil, errNotAsked
	}
	var f found
	f.when(s.cfg.ShutdownDelay == 0, "SHUTDOWN_DELAY is 0s: a balancer still sends requests to a node that has begun to stop; set it to twice the interval of its health check, such as 10s")
	return f, nil
}
