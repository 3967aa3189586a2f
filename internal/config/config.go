package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/joho/godotenv"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/leak"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/stream"
	"git.sentryagent.ai/sentryagent-idp/internal/witness"
)

// Config is every setting, read and checked.
type Config struct {
	Production bool
	Host       string
	Port       int
	DataDir    string
	// DatabaseURL may hold a password.
	DatabaseURL  secret.Value
	DatabaseRole string
	// RedisURL may hold a password; it is zero where nodes share nothing.
	RedisURL           secret.Value
	RootSecret         secret.Value
	RootSecretPrevious secret.Value
	SecretHasher       credential.Mode
	Issuer             string
	Alg                keys.Alg
	TokenTTL           time.Duration
	MaxTokenTTL        time.Duration
	AuditRetentionDays int
	RateLimits         bool
	SourceLimit        int
	ClientLimit        int
	CacheEntries       int
	MaxConnections     int
	CORSOrigins        []string
	TLSCertFile        string
	TLSKeyFile         string
	TrustedProxies     []netip.Prefix
	LogLevel           slog.Level
	ShutdownDelay      time.Duration
	ShutdownTimeout    time.Duration
	// Witnesses sign checkpoints before they are published, WitnessQuorum of them.
	Witnesses     []witness.Witness
	WitnessQuorum int
	// ReporterKeys are the public keys that reports of leaked secrets are signed with.
	ReporterKeys leak.Keys
	// OutboundAllow are private networks that requests may go out to.
	OutboundAllow []netip.Prefix
	// Streams says where the record is sent on to.
	Streams stream.Settings
}

// Sources is where settings come from.
type Sources struct {
	// Flags holds what was given on the command line, by setting name.
	Flags map[string]string
	// Environ is in the form of os.Environ.
	Environ []string
	// DotEnv is the path of a .env file; it need not exist.
	DotEnv string
}

// Load reads and checks every setting. Its error names each setting that is
// wrong, and the rule.
func Load(src Sources) (*Config, error) {
	values, wrong := src.values()
	c := &Config{}
	for _, s := range Settings() {
		text := values[s.Name]
		if text == "" {
			text = s.Default
		}
		if err := s.read(c, text); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", s.Name, err))
		}
	}
	wrong = append(wrong, c.check()...)
	if len(wrong) > 0 {
		return nil, fmt.Errorf("the configuration is not valid:\n%w", errors.Join(wrong...))
	}
	return c, nil
}

// values merges the sources; the nearest one wins.
func (src Sources) values() (values map[string]string, wrong []error) {
	fromFile, err := src.dotEnv()
	if err != nil {
		wrong = append(wrong, err)
	}
	fromEnv := environment(src.Environ)
	values = map[string]string{}
	for _, s := range Settings() {
		for _, layer := range []map[string]string{src.Flags, fromEnv, fromFile} {
			value, err := s.from(layer)
			if err != nil {
				wrong = append(wrong, err)
				break
			}
			if value != "" {
				values[s.Name] = value
				break
			}
		}
	}
	return values, wrong
}

// dotEnv reads the .env file, where there is one.
func (src Sources) dotEnv() (map[string]string, error) {
	if src.DotEnv == "" {
		return nil, nil
	}
	content, err := os.ReadFile(filepath.Clean(src.DotEnv))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the file of settings: %w", err)
	}
	values, err := godotenv.UnmarshalBytes(content)
	if err != nil {
		// The parser's error repeats the file, with the secrets in it.
		return nil, fmt.Errorf("%s: a line is not in the form NAME=value, or a quote is not closed", src.DotEnv)
	}
	return values, nil
}

// from gives a setting's value in one layer; a secret may stand in a file.
func (s Setting) from(layer map[string]string) (string, error) {
	value := layer[s.Name]
	if value == "" && s.Name == "APP_ENV" {
		value = layer["NODE_ENV"]
		if value != "production" {
			value = "" // Node knows other words, and all of them mean development here
		}
	}
	file := layer[s.Name+"_FILE"]
	if !s.Secret || file == "" {
		return value, nil
	}
	if value != "" {
		return "", fmt.Errorf("%s and %s_FILE are both set; keep one", s.Name, s.Name)
	}
	content, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return "", fmt.Errorf("%s_FILE: %w", s.Name, err)
	}
	value = strings.TrimRight(string(content), "\r\n")
	if value == "" {
		return "", fmt.Errorf("%s_FILE: %s is empty", s.Name, file)
	}
	return value, nil
}

// check holds the rules that concern more than one setting.
func (c *Config) check() []error {
	var wrong []error
	refuse := func(bad bool, text string) {
		if bad {
			wrong = append(wrong, errors.New(text))
		}
	}
	wrong = append(wrong, c.Streams.Check()...)
	refuse(c.TokenTTL > c.MaxTokenTTL, "TOKEN_TTL: must not be longer than TOKEN_TTL_MAX")
	refuse((c.TLSCertFile == "") != (c.TLSKeyFile == ""), "TLS_CERT_FILE and TLS_KEY_FILE: set both or none")
	if !c.RootSecret.IsZero() {
		refuse(len(c.RootSecret.Reveal()) < keys.MinRootSecret, fmt.Sprintf("JWT_SECRET: must have at least %d bytes", keys.MinRootSecret))
		refuse(c.Production && isExample(c.RootSecret.Reveal()), "JWT_SECRET: is a known example value; make one with: openssl rand -hex 32")
	}
	refuse(c.Production && c.RootSecret.IsZero(), "JWT_SECRET: is required in production; make one with: openssl rand -hex 32")
	refuse(!c.RootSecretPrevious.IsZero() && len(c.RootSecretPrevious.Reveal()) < keys.MinRootSecret, fmt.Sprintf("JWT_SECRET_PREVIOUS: must have at least %d bytes", keys.MinRootSecret))
	refuse(c.Production && c.Issuer == "", "JWT_ISSUER: is required in production, as tokens carry it")
	if c.Issuer != "" {
		u, err := url.Parse(c.Issuer)
		refuse(err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http", "JWT_ISSUER: must be an absolute http or https URL")
		refuse(strings.HasSuffix(c.Issuer, "/"), "JWT_ISSUER: must not end with a slash")
		refuse(err == nil && u.Path != "" && u.Path != "/", "JWT_ISSUER: must not have a path: clients would look for its metadata at /.well-known/oauth-authorization-server/PATH (RFC 8414 §3.1), which is not served; give the server a host name of its own")
		refuse(err == nil && (u.RawQuery != "" || u.Fragment != "" || u.User != nil), "JWT_ISSUER: must hold neither query, fragment nor user")
		refuse(c.Production && err == nil && u.Scheme != "https", "JWT_ISSUER: must be https in production")
	}
	if c.Host == "" {
		c.Host = "127.0.0.1"
		if c.Production {
			c.Host = "0.0.0.0"
		}
	}
	if c.DatabaseURL.IsZero() {
		c.DatabaseURL = secret.New("sqlite:" + filepath.Join(c.DataDir, "agentidp.db"))
	}
	return wrong
}

// isExample knows the values that stand in examples everywhere.
func isExample(s string) bool {
	lower := strings.ToLower(s)
	return slices.ContainsFunc([]string{"changeme", "change-me", "change_me", "your-secret", "your_secret", "yoursecret", "example", "password", "supersecret", "super-secret", "0123456789abcdef0123456789abcdef"},
		func(known string) bool { return strings.Contains(lower, known) }) || strings.Count(s, s[:1]) == len(s)
}

// Embedded gives the path of the embedded database, where it is used.
func (c *Config) Embedded() (path string, ok bool) {
	return strings.CutPrefix(c.DatabaseURL.Reveal(), "sqlite:")
}

// here reports whether all hosts of a URL are this machine.
func here(address string) bool {
	_, rest, _ := strings.Cut(address, "://")
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	for host := range strings.SplitSeq(rest[strings.LastIndex(rest, "@")+1:], ",") {
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if host != "" && host != "localhost" && (err != nil || !addr.IsLoopback()) {
			return false
		}
	}
	return true
}

// EmbeddedWarning is what is said of embedded storage.
const EmbeddedWarning = "embedded storage serves one node, and is gone with its disk: back it up"

// Warnings says what of the present configuration is not fit for production.
func (c *Config) Warnings() []string {
	var all []string
	warn := func(unfit bool, text string) {
		if unfit {
			all = append(all, text)
		}
	}
	warn(!c.Production, "APP_ENV is not production: missing secrets are made up")
	warn(c.RootSecret.IsZero(), "JWT_SECRET is not set: the one in DATA_DIR lies beside the data that it protects")
	warn(c.TLSCertFile == "" && len(c.TrustedProxies) == 0, "no TLS here and no trusted proxy before: secrets and tokens travel in the clear")
	warn(!c.RateLimits, "RATE_LIMIT is off: nothing slows an attacker down")
	_, embedded := c.Embedded()
	database, shared := c.DatabaseURL.Reveal(), c.RedisURL.Reveal()
	warn(!embedded && !here(database) && !strings.Contains(database, "sslmode=verify-"),
		"DATABASE_URL does not say sslmode=verify-full: PostgreSQL may be reached in the clear, or be somebody else")
	warn(shared != "" && !here(shared) && !strings.HasPrefix(shared, "rediss"), "REDIS_URL is not a rediss:// one: Redis is reached in the clear")
	warn(embedded, EmbeddedWarning)
	return all
}
