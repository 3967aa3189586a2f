package config

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/leak"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/witness"
)

// Setting is one line of the table of settings.
type Setting struct {
	// Begins is the heading of the group that the setting is the first of.
	Begins  string
	Name    string
	Default string
	// DefaultNote describes a default that depends on other settings.
	DefaultNote string
	Meaning     string
	// Secret settings may also be given in a file, named by NAME_FILE.
	Secret bool
	// NoFlag settings have no flag of their own, as every user of the machine can
	// read a command line.
	NoFlag bool

	read func(c *Config, text string) error
}

// Settings gives the table of all settings.
func Settings() []Setting {
	return []Setting{
		{Begins: "The server", Name: "APP_ENV", Default: "development", Meaning: "development or production; production refuses what is not safe (NODE_ENV is read too)", read: func(c *Config, s string) error {
			c.Production = s == "production"
			return oneOf(s, "development", "production")
		}},
		{Name: "HOST", DefaultNote: "127.0.0.1, in production 0.0.0.0", Meaning: "address to listen on", read: func(c *Config, s string) error { c.Host = s; return nil }},
		{Name: "PORT", Default: "3000", Meaning: "port to listen on; 0 takes a free one", read: func(c *Config, s string) (err error) { c.Port, err = number(s, 0, 65535); return err }},
		{Name: "DATA_DIR", Default: "./agentidp-data", Meaning: "folder of the embedded database and of the secret made for it", read: func(c *Config, s string) error { c.DataDir = s; return nil }},
		{Begins: "Storage, and what nodes share", Name: "DATABASE_URL", DefaultNote: "sqlite:DATA_DIR/agentidp.db", Meaning: "database: sqlite:PATH, or postgres://USER:PASSWORD@HOST:PORT/NAME, with several hosts separated by commas", Secret: true, read: readDatabase},
		{Name: "DATABASE_ROLE", Meaning: "role the server works as in PostgreSQL; migrate, run as the owner, grants it what it needs", read: readRole},
		{Name: "REDIS_URL", DefaultNote: "none, each node for itself", Meaning: "Redis by which nodes share rate limits and news of changes: redis://USER:PASSWORD@HOST:PORT/NUMBER, rediss:// for TLS, redis+cluster://HOST,HOST or redis+sentinel://HOST,HOST/MASTER", Secret: true, NoFlag: true, read: readRedis},
		{Begins: "Secrets, keys and tokens", Name: "JWT_SECRET", DefaultNote: "made in DATA_DIR", Meaning: "root secret of at least 32 bytes; the server's other keys are derived from it", Secret: true, NoFlag: true, read: func(c *Config, s string) error { c.RootSecret = secret.New(s); return nil }},
		{Name: "JWT_SECRET_PREVIOUS", Meaning: "the root secret before, while it is being changed", Secret: true, NoFlag: true, read: func(c *Config, s string) error { c.RootSecretPrevious = secret.New(s); return nil }},
		{Name: "JWT_ISSUER", DefaultNote: "http://localhost:PORT", Meaning: "URL that clients reach the server by, without a path or a trailing slash; the iss claim", read: func(c *Config, s string) error { c.Issuer = s; return nil }},
		{Name: "JWT_ALG", Default: "ES256", Meaning: "algorithm of new signing keys: ES256, EdDSA or RS256", read: func(c *Config, s string) error {
			c.Alg = keys.Alg(s)
			return oneOf(s, string(keys.ES256), string(keys.EdDSA), string(keys.RS256))
		}},
		{Name: "SECRET_HASHER", Default: "bcrypt", Meaning: "what is kept of client secrets: bcrypt beside a keyed fingerprint, or hmac, the fingerprint alone", read: func(c *Config, s string) error {
			c.SecretHasher = credential.Mode(s)
			return oneOf(s, string(credential.Bcrypt), string(credential.HMAC))
		}},
		{Name: "LEAK_REPORT_KEYS_FILE", DefaultNote: "none, no report is believed", Meaning: "public keys (JSON, as a host with secret scanning publishes them) that reports of leaked secrets are signed with", read: readReporterKeys},
		{Name: "TOKEN_TTL", Default: "1h", Meaning: "lifetime of tokens of agents that have none of their own", read: func(c *Config, s string) (err error) {
			c.TokenTTL, err = duration(s, time.Minute, 24*time.Hour)
			return err
		}},
		{Name: "TOKEN_TTL_MAX", Default: "24h", Meaning: "longest lifetime an agent may have of its own", read: func(c *Config, s string) (err error) {
			c.MaxTokenTTL, err = duration(s, time.Minute, 24*time.Hour)
			return err
		}},
		{Begins: "The record", Name: "AUDIT_RETENTION_DAYS", Default: "90", Meaning: "days that audit events are kept, where an organization says nothing else", read: func(c *Config, s string) (err error) { c.AuditRetentionDays, err = number(s, 1, 36_500); return err }},
		{Name: "AUDIT_WITNESSES", DefaultNote: "none", Meaning: "witnesses that sign a checkpoint before it is published, each a verifier key, a space and a URL, separated by commas", read: func(c *Config, s string) (err error) {
			c.Witnesses, err = witness.ParseWitnesses(s)
			return err
		}},
		{Name: "AUDIT_WITNESS_QUORUM", DefaultNote: "more than half", Meaning: "how many of the witnesses must sign", read: func(c *Config, s string) (err error) {
			c.WitnessQuorum, err = witness.ParseQuorum(s, len(c.Witnesses))
			return err
		}},
		{Name: "OUTBOUND_ALLOW", DefaultNote: "none", Meaning: "private networks that witnesses and webhooks may be in, separated by commas, such as 10.0.0.0/8", read: func(c *Config, s string) (err error) {
			c.OutboundAllow, err = networks(s)
			return err
		}},
		{Name: "AUDIT_STREAM_FILE", Meaning: "file that the record is appended to as it grows", read: func(c *Config, s string) error { c.Streams.File = s; return nil }},
		{Name: "AUDIT_STREAM_SYSLOG", Meaning: "syslog server that the record is sent to: tls://HOST:PORT, or tcp://HOST:PORT on this machine", read: func(c *Config, s string) error { c.Streams.Syslog = s; return nil }},
		{Name: "AUDIT_STREAM_SYSLOG_CA_FILE", DefaultNote: "the system's", Meaning: "authorities (PEM) that the syslog server's certificate is verified by", read: func(c *Config, s string) error { c.Streams.SyslogCAFile = s; return nil }},
		{Name: "AUDIT_STREAM_SYSLOG_CERT_FILE", Meaning: "certificate (PEM) that the syslog server is shown", read: func(c *Config, s string) error { c.Streams.SyslogCertFile = s; return nil }},
		{Name: "AUDIT_STREAM_SYSLOG_KEY_FILE", Meaning: "private key (PEM) of that certificate", read: func(c *Config, s string) error { c.Streams.SyslogKeyFile = s; return nil }},
		{Name: "AUDIT_STREAM_WEBHOOK", Meaning: "URL that the record is posted to, https but on this machine", read: func(c *Config, s string) error { c.Streams.Webhook = s; return nil }},
		{Name: "AUDIT_STREAM_WEBHOOK_SECRET", Meaning: "secret of at least 24 bytes that signs what is posted (Standard Webhooks); the new and the old, with a space between, while it is being changed", Secret: true, NoFlag: true, read: func(c *Config, s string) error { c.Streams.WebhookSecret = secret.New(s); return nil }},
		{Name: "AUDIT_STREAM_FORMAT", Default: export.NDJSON, Meaning: "what the streams of the record carry: ndjson or ocsf", read: func(c *Config, s string) error { c.Streams.Format = s; return nil }},
		{Begins: "Limits and memory", Name: "RATE_LIMIT", Default: "on", Meaning: "on, or off for measurements", read: func(c *Config, s string) error { c.RateLimits = s != "off"; return oneOf(s, "on", "off") }},
		{Name: "RATE_LIMIT_SOURCE", Default: "6000", Meaning: "requests a minute from one address (IPv6: from one /64)", read: func(c *Config, s string) (err error) { c.SourceLimit, err = number(s, 1, 100_000_000); return err }},
		{Name: "RATE_LIMIT_CLIENT", Default: "600", Meaning: "tokens a minute for one client", read: func(c *Config, s string) (err error) { c.ClientLimit, err = number(s, 1, 100_000_000); return err }},
		{Name: "CACHE_ENTRIES", Default: "100000", Meaning: "credentials and verified tokens kept in memory, of each at most so many", read: func(c *Config, s string) (err error) { c.CacheEntries, err = number(s, 100, 100_000_000); return err }},
		{Name: "MAX_CONNECTIONS", Default: "10000", Meaning: "connections that are open at a time; more wait to be accepted", read: func(c *Config, s string) (err error) { c.MaxConnections, err = number(s, 1, 10_000_000); return err }},
		{Begins: "The network", Name: "CORS_ORIGINS", DefaultNote: "none", Meaning: "origins whose pages may call the API, separated by commas", read: readOrigins},
		{Name: "TLS_CERT_FILE", Meaning: "certificate chain (PEM) to serve TLS with", read: func(c *Config, s string) error { c.TLSCertFile = s; return nil }},
		{Name: "TLS_KEY_FILE", Meaning: "private key (PEM) of the certificate", read: func(c *Config, s string) error { c.TLSKeyFile = s; return nil }},
		{Name: "TRUSTED_PROXIES", DefaultNote: "none", Meaning: "networks whose X-Forwarded-For is believed, separated by commas, such as 10.0.0.0/8", read: readProxies},
		{Begins: "Running and stopping", Name: "LOG_LEVEL", Default: "info", Meaning: "debug, info, warn or error", read: func(c *Config, s string) error {
			if err := c.LogLevel.UnmarshalText([]byte(s)); err != nil {
				return errors.New("must be debug, info, warn or error")
			}
			return nil
		}},
		{Name: "SHUTDOWN_DELAY", Default: "0s", Meaning: "how long the server says that it is not ready before it stops taking connections", read: func(c *Config, s string) (err error) {
			c.ShutdownDelay, err = duration(s, 0, time.Minute)
			return err
		}},
		{Name: "SHUTDOWN_TIMEOUT", Default: "10s", Meaning: "how long requests under way may take when the server is stopped", read: func(c *Config, s string) (err error) {
			c.ShutdownTimeout, err = duration(s, 0, 10*time.Minute)
			return err
		}},
	}
}

func oneOf(s string, allowed ...string) error {
	if slices.Contains(allowed, s) {
		return nil
	}
	return fmt.Errorf("must be %s", strings.Join(allowed, " or "))
}

func number(s string, least, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("must be a whole number from %d to %d", least, most)
	}
	return n, nil
}

func duration(s string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most || d%time.Second != 0 {
		return 0, fmt.Errorf("must be a duration from %s to %s in whole seconds, such as 30s or 1h", least, most)
	}
	return d, nil
}

func readDatabase(c *Config, s string) error {
	c.DatabaseURL = secret.New(s)
	path, embedded := c.Embedded()
	if s == "" || embedded && path != "" || strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") {
		return nil
	}
	return errors.New("must be sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/NAME")
}

// readRedis knows the schemes; the rest is read where the connection is made.
func readRedis(c *Config, s string) error {
	c.RedisURL = secret.New(s)
	scheme, hosts, _ := strings.Cut(s, "://")
	plain := strings.TrimSuffix(strings.TrimSuffix(scheme, "+cluster"), "+sentinel")
	if s == "" || hosts != "" && (plain == "redis" || plain == "rediss") {
		return nil
	}
	return errors.New("must be redis://USER:PASSWORD@HOST:PORT/NUMBER, rediss:// for TLS, redis+cluster://HOST,HOST or redis+sentinel://HOST,HOST/MASTER")
}

// readReporterKeys reads the file now: what is wrong with it is said when the server starts.
func readReporterKeys(c *Config, path string) error {
	if path == "" {
		return nil
	}
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, leak.MaxKeyFile+1))
	if err != nil {
		return err
	}
	c.ReporterKeys, err = leak.ParseKeys(text)
	return err
}

func readRole(c *Config, s string) error {
	c.DatabaseRole = s
	plain := func(r rune) bool { return r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' }
	if len(s) > 63 || strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return errors.New("must be at most 63 lower-case letters, digits, hyphens and underscores")
	}
	return nil
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func readOrigins(c *Config, s string) error {
	for _, origin := range list(s) {
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || origin != u.Scheme+"://"+u.Host {
			return fmt.Errorf("%q is not an origin such as https://console.example.com", origin)
		}
		c.CORSOrigins = append(c.CORSOrigins, origin)
	}
	return nil
}

func readProxies(c *Config, s string) (err error) {
	c.TrustedProxies, err = networks(s)
	return err
}

func networks(s string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, network := range list(s) {
		prefix, err := netip.ParsePrefix(network)
		if err != nil {
			addr, addrErr := netip.ParseAddr(network)
			if addrErr != nil {
				return nil, fmt.Errorf("%q is neither a network nor an address", network)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		all = append(all, prefix)
	}
	return all, nil
}

// Describe prints every setting with its default and its meaning.
func Describe(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if _, err := fmt.Fprintln(table, "SETTING\tDEFAULT\tMEANING"); err != nil {
		return err
	}
	for _, s := range Settings() {
		name := s.Name
		if s.Secret {
			name += " (or " + s.Name + "_FILE)"
		}
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\n", name, s.shownDefault(), s.Meaning); err != nil {
			return err
		}
	}
	return table.Flush()
}

// Flags gives the names under which the setting can be given on the command line.
func (s Setting) Flags() []string {
	var names []string
	if !s.NoFlag {
		names = append(names, s.Name)
	}
	if s.Secret {
		names = append(names, s.Name+"_FILE")
	}
	return names
}

func (s Setting) shownDefault() string {
	switch {
	case s.DefaultNote != "":
		return s.DefaultNote
	case s.Default == "":
		return "none"
	}
	return s.Default
}

// Example prints a .env file with every setting at its default.
func Example(w io.Writer) error {
	if _, err := fmt.Fprintln(w, "# Every setting of agentidp, at its default. Flags and the environment win over this file."); err != nil {
		return err
	}
	for _, s := range Settings() {
		if s.Begins != "" {
			if _, err := fmt.Fprintf(w, "\n# ---- %s ----\n", s.Begins); err != nil {
				return err
			}
		}
		note := ""
		if s.DefaultNote != "" {
			note = " (default: " + s.DefaultNote + ")"
		}
		if _, err := fmt.Fprintf(w, "\n# %s%s\n#%s=%s\n", s.Meaning, note, s.Name, s.Default); err != nil {
			return err
		}
	}
	return nil
}
