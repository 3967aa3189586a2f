package config_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/stream"
)

// good is a root secret that nothing is wrong with.
const good = "9f2c4e61b7a80d35c1f6e2947ab30d58"

// load reads settings as the environment gives them.
func load(environ ...string) (*config.Config, error) {
	return config.Load(config.Sources{Environ: environ})
}

// mustLoad is load of settings that are right.
func mustLoad(t *testing.T, environ ...string) *config.Config {
	t.Helper()
	c, err := load(environ...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// production is the least that production asks for, and what a test adds to it.
func production(more ...string) []string {
	return append([]string{"APP_ENV=production", "JWT_SECRET=" + good, "JWT_ISSUER=https://idp.example.com"}, more...)
}

// file writes a file and gives its path.
func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// refused fails unless the error says all of it.
func refused(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("nothing was refused, want an error that says %q", says)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("the error does not say %q:\n%v", s, err)
		}
	}
}

// With nothing set, the server runs on this machine alone (R43).
func TestTheDefaultsAreWhatTheTableSays(t *testing.T) {
	c := mustLoad(t)
	want := &config.Config{
		Host: "127.0.0.1", Port: 3000, DataDir: "./agentidp-data", DatabaseURL: secret.New("sqlite:agentidp-data/agentidp.db"), SecretHasher: "bcrypt",
		Alg: "ES256", TokenTTL: time.Hour, MaxTokenTTL: 24 * time.Hour, AuditRetentionDays: 90, Streams: stream.Settings{Format: "ndjson"}, RateLimits: true, SourceLimit: 6000,
		ClientLimit: 600, CacheEntries: 100_000, MaxConnections: 10_000, LogLevel: slog.LevelInfo, ShutdownTimeout: 10 * time.Second,
	}
	if got, want := fmt.Sprintf("%+v", c), fmt.Sprintf("%+v", want); got != want {
		t.Errorf("defaults\n%s, want\n%s", got, want)
	}
}

// Witnesses are read with the number of them that must sign (R4).
func TestWitnessesAreRead(t *testing.T) {
	const one = "w.example/1+d11b8532+BIey+8VaaIgmFGv2G4PR4+kEODOT7MvL7eZ0Uj7ZCv5y https://w.example/1"
	if c := mustLoad(t, "AUDIT_WITNESSES="+one); len(c.Witnesses) != 1 || c.Witnesses[0].URL != "https://w.example/1" || c.WitnessQuorum != 1 {
		t.Errorf("read %+v, of which %d must sign", c.Witnesses, c.WitnessQuorum)
	}
	_, err := load("AUDIT_WITNESSES="+one, "AUDIT_WITNESS_QUORUM=2")
	refused(t, err, "AUDIT_WITNESS_QUORUM: must be from 1 to 1")
	_, err = load("AUDIT_WITNESSES=nonsense", "AUDIT_WITNESS_QUORUM=x", "OUTBOUND_ALLOW=everywhere")
	refused(t, err, "AUDIT_WITNESSES: entry 1", "AUDIT_WITNESS_QUORUM: must be a whole number", `OUTBOUND_ALLOW: "everywhere" is neither a network nor an address`)
}

func TestEverySettingIsRead(t *testing.T) {
	c := mustLoad(t, production(
		"HOST=10.1.2.3", "PORT=8443", "DATA_DIR=/data", "DATABASE_URL=sqlite:/db", "REDIS_URL=rediss://:p@h", "JWT_SECRET_PREVIOUS="+good+"!", "JWT_ALG=EdDSA",
		"SECRET_HASHER=hmac", "TOKEN_TTL=15m", "TOKEN_TTL_MAX=2h", "AUDIT_RETENTION_DAYS=7", "RATE_LIMIT=off",
		"AUDIT_STREAM_FILE=/f", "AUDIT_STREAM_SYSLOG=tls://h:6514", "AUDIT_STREAM_SYSLOG_CA_FILE=a", "AUDIT_STREAM_SYSLOG_CERT_FILE=b", "AUDIT_STREAM_SYSLOG_KEY_FILE=k",
		"AUDIT_STREAM_WEBHOOK=https://h/p", "AUDIT_STREAM_WEBHOOK_SECRET="+good, "AUDIT_STREAM_FORMAT=ocsf", "RATE_LIMIT_SOURCE=1",
		"RATE_LIMIT_CLIENT=2", "CACHE_ENTRIES=300", "MAX_CONNECTIONS=400", "CORS_ORIGINS=https://a.example, http://localhost:5173", "TLS_CERT_FILE=c", "TLS_KEY_FILE=k",
		"TRUSTED_PROXIES=10.0.0.0/8,192.0.2.1,fd00::/8", "LOG_LEVEL=debug", "SHUTDOWN_DELAY=5s", "SHUTDOWN_TIMEOUT=1m", "OUTBOUND_ALLOW=10.9.0.0/16",
	)...)
	want := "&{Production:true Host:10.1.2.3 Port:8443 DataDir:/data DatabaseURL:[hidden] DatabaseRole: RedisURL:[hidden] RootSecret:[hidden] RootSecretPrevious:[hidden] " +
		"SecretHasher:hmac Issuer:https://idp.example.com Alg:EdDSA TokenTTL:15m0s MaxTokenTTL:2h0m0s AuditRetentionDays:7 RateLimits:false " +
		"SourceLimit:1 ClientLimit:2 CacheEntries:300 MaxConnections:400 CORSOrigins:[https://a.example http://localhost:5173] TLSCertFile:c TLSKeyFile:k " +
		"TrustedProxies:[10.0.0.0/8 192.0.2.1/32 fd00::/8] LogLevel:DEBUG ShutdownDelay:5s ShutdownTimeout:1m0s " +
		"Witnesses:[] WitnessQuorum:0 ReporterKeys:{known:map[]} OutboundAllow:[10.9.0.0/16] Streams:{File:/f Syslog:tls://h:6514 SyslogCAFile:a SyslogCertFile:b SyslogKeyFile:k Webhook:https://h/p WebhookSecret:[hidden] Format:ocsf}}"
	if got := fmt.Sprintf("%+v", c); got != want {
		t.Errorf("read\n%s, want\n%s", got, want)
	}
	if c.RootSecret.Reveal() != good || c.RootSecretPrevious.Reveal() != good+"!" {
		t.Error("the secrets are not those that were set")
	}
}

func TestTheNearestSourceWins(t *testing.T) {
	dotEnv := file(t, "PORT=1\nTOKEN_TTL=1m\nJWT_ALG=RS256\nHOST=\n")
	environ := []string{"PORT=2", "TOKEN_TTL=2m", "JWT_ALG=", "PATH=/bin", "novalue"}
	c, err := config.Load(config.Sources{Flags: map[string]string{"PORT": "3", "TOKEN_TTL": ""}, Environ: environ, DotEnv: dotEnv})
	if err != nil {
		t.Fatal(err)
	}
	if c.Port != 3 || c.TokenTTL != 2*time.Minute || c.Alg != "RS256" || c.Host != "127.0.0.1" {
		t.Errorf("PORT %d, TOKEN_TTL %s, JWT_ALG %s, HOST %s, want 3 of the flag, 2m of the environment, RS256 of the file, the default",
			c.Port, c.TokenTTL, c.Alg, c.Host)
	}
}

func TestADotEnvFileNeedNotExistButMustBeRight(t *testing.T) {
	if _, err := config.Load(config.Sources{DotEnv: filepath.Join(t.TempDir(), "missing")}); err != nil {
		t.Errorf("a .env file that does not exist: %v", err)
	}
	dir := t.TempDir()
	_, err := config.Load(config.Sources{DotEnv: dir})
	refused(t, err, dir)
	for _, content := range []string{"JWT_SECRET='SECRETMARKER", "PORT=1\n-SECRETMARKER-\n"} {
		path := file(t, content)
		_, err := config.Load(config.Sources{DotEnv: path})
		refused(t, err, path)
		if strings.Contains(fmt.Sprint(err), "SECRETMARKER") {
			t.Errorf("the error repeats the file: %v", err)
		}
	}
}

// What cannot work is refused by name and with the rule (R43).
func TestABadValueIsRefusedWithTheSettingAndTheRule(t *testing.T) {
	rules := map[string]struct {
		rule string
		bad  []string
	}{
		"APP_ENV":              {"must be development or production", []string{"prod", "Production", "test"}},
		"PORT":                 {"must be a whole number from 0 to 65535", []string{"-1", "65536", "http", "80.5"}},
		"DATABASE_ROLE":        {"must be at most 63", []string{"Robert'); DROP TABLE agents", strings.Repeat("a", 64)}},
		"DATABASE_URL":         {"must be sqlite:PATH or postgres://", []string{"sqlite:", "mysql://u:SECRETMARKER@h/db", "/db"}},
		"REDIS_URL":            {"must be redis://", []string{"redis://", "localhost", "http://u:SECRETMARKER@h", "redis+other://u:SECRETMARKER@h", "+cluster://h"}},
		"JWT_SECRET":           {"must have at least 32 bytes", []string{"SECRETMARKER", strings.Repeat("ab", 15) + "a"}},
		"JWT_SECRET_PREVIOUS":  {"must have at least 32 bytes", []string{"SECRETMARKER"}},
		"JWT_ISSUER":           {"must", []string{"idp", "ftp://idp", "https://", "https://idp/", "https://idp?a", "https://idp#a", "https://u:p@idp", "://"}},
		"JWT_ALG":              {"must be ES256 or EdDSA or RS256", []string{"none", "HS256", "es256"}},
		"SECRET_HASHER":        {"must be bcrypt or hmac", []string{"md5"}},
		"TOKEN_TTL":            {"must be a duration from 1m0s to 24h0m0s", []string{"59s", "25h", "60", "-1h", "soon"}},
		"TOKEN_TTL_MAX":        {"must be a duration from 1m0s to 24h0m0s", []string{"0", "25h"}},
		"AUDIT_RETENTION_DAYS": {"must be a whole number from 1 to 36500", []string{"0", "36501", "90d"}},

		"LEAK_REPORT_KEYS_FILE":       {"no such file", []string{"nowhere.json"}},
		"AUDIT_WITNESSES":             {"entry 1: ", []string{"w.example", "w.example+00000000+AAAA https://w.example", "w.example+00000000+AAAA"}},
		"AUDIT_WITNESS_QUORUM":        {"must be", []string{"1", "-1", "half"}},
		"OUTBOUND_ALLOW":              {"is neither a network nor an address", []string{"everywhere", "10.0.0.0/33"}},
		"AUDIT_STREAM_SYSLOG":         {"must be tls://HOST:PORT", []string{"logs:6514", "tls://logs", "tcp://logs:514", "udp://127.0.0.1:514", "tls://u:p@logs:6514", "tls://logs:6514/x"}},
		"AUDIT_STREAM_WEBHOOK":        {"must", []string{"siem", "http://siem.example.com", "ftp://h/p", "https://u:SECRETMARKER@h/p", "https://h/p#a", "https://"}},
		"AUDIT_STREAM_WEBHOOK_SECRET": {"must", []string{"SECRETMARKER", "whsec_SECRETMARKER", "whsec_" + good + "!", good + " " + good + " " + good, good + " SECRETMARKER"}},
		"AUDIT_STREAM_FORMAT":         {"must be ndjson or ocsf", []string{"csv", "NDJSON"}},

		"RATE_LIMIT":        {"must be on or off", []string{"false", "0", "OFF"}},
		"RATE_LIMIT_SOURCE": {"must be a whole number from 1 to", []string{"0", "-1", "100000001"}},
		"MAX_CONNECTIONS":   {"must be a whole number from 1 to", []string{"0", "many"}},
		"RATE_LIMIT_CLIENT": {"must be a whole number from 1 to", []string{"0", "many"}},
		"CACHE_ENTRIES":     {"must be a whole number from 100 to", []string{"99", "1e5"}},
		"CORS_ORIGINS":      {"is not an origin", []string{"*", "example.com", "https://a/", "https://a.example,https://b.example/path"}},
		"TRUSTED_PROXIES":   {"is neither a network nor an address", []string{"proxy", "10.0.0.0/33", "10.0.0.1,*"}},
		"LOG_LEVEL":         {"must be debug, info, warn or error", []string{"verbose", "5"}},
		"SHUTDOWN_DELAY":    {"must be a duration from 0s to 1m0s", []string{"61s", "-1s", "5"}},
		"SHUTDOWN_TIMEOUT":  {"must be a duration from 0s to 10m0s", []string{"11m", "-1s"}},
	}
	free := map[string]bool{
		"HOST": true, "DATA_DIR": true, "TLS_CERT_FILE": true, "TLS_KEY_FILE": true,
		"AUDIT_STREAM_FILE": true, "AUDIT_STREAM_SYSLOG_CA_FILE": true, "AUDIT_STREAM_SYSLOG_CERT_FILE": true, "AUDIT_STREAM_SYSLOG_KEY_FILE": true,
	} // only opening them tells
	var all, says []string
	for _, s := range config.Settings() {
		c, ruled := rules[s.Name]
		if ruled == free[s.Name] {
			t.Errorf("%s: no bad value is tried", s.Name)
		}
		for i, bad := range c.bad {
			_, err := load(s.Name + "=" + bad)
			refused(t, err, s.Name+": ", c.rule)
			if strings.Contains(fmt.Sprint(err), "SECRETMARKER") {
				t.Errorf("the error repeats a secret: %v", err)
			}
			if i == 0 {
				all, says = append(all, s.Name+"="+bad), append(says, s.Name+": ")
			}
		}
	}
	_, err := load(all...)
	refused(t, err, says...)
}

// Nothing is rounded behind the operator's back: tokens live whole seconds.
func TestADurationIsTakenAsItStandsOrRefused(t *testing.T) {
	for name, value := range map[string]string{"TOKEN_TTL": "60.5s", "TOKEN_TTL_MAX": "2h1ms", "SHUTDOWN_DELAY": "500ms", "SHUTDOWN_TIMEOUT": "1ns"} {
		_, err := load(name + "=" + value)
		refused(t, err, name+": ", "whole seconds")
	}
}

// RFC 8414 §3.1 puts the well-known name between the host and the issuer's path,
// where this server answers nothing.
func TestAnIssuerWithAPathIsRefused(t *testing.T) {
	for _, issuer := range []string{"https://example.com/idp", "https://example.com/a/b/", "https://example.com//", "https://example.com/%2e"} {
		_, err := load("JWT_ISSUER=" + issuer)
		refused(t, err, "JWT_ISSUER: must not have a path", "host name")
	}
	for _, issuer := range []string{"https://idp.example.com", "http://localhost:3000", "https://[::1]:8443"} {
		mustLoad(t, "JWT_ISSUER="+issuer)
	}
}

func TestSettingsThatDoNotGoTogetherAreRefused(t *testing.T) {
	_, err := load("TOKEN_TTL=2h", "TOKEN_TTL_MAX=1h")
	refused(t, err, "TOKEN_TTL: must not be longer than TOKEN_TTL_MAX")
	for _, alone := range []string{"TLS_CERT_FILE=cert.pem", "TLS_KEY_FILE=key.pem"} {
		_, err := load(alone)
		refused(t, err, "TLS_CERT_FILE and TLS_KEY_FILE: set both or none")
	}
	_, err = load("AUDIT_STREAM_WEBHOOK=https://siem.example.com")
	refused(t, err, "AUDIT_STREAM_WEBHOOK_SECRET: is required")
	for _, alone := range []string{"AUDIT_STREAM_SYSLOG_CERT_FILE=cert.pem", "AUDIT_STREAM_SYSLOG_KEY_FILE=key.pem"} {
		_, err := load(alone)
		refused(t, err, "AUDIT_STREAM_SYSLOG_CERT_FILE and AUDIT_STREAM_SYSLOG_KEY_FILE: set both or none")
	}
	mustLoad(t, "AUDIT_STREAM_SYSLOG=tcp://[::1]:514", "AUDIT_STREAM_WEBHOOK=http://localhost:8080/in", "AUDIT_STREAM_WEBHOOK_SECRET="+good)
	mustLoad(t, "TOKEN_TTL=1h", "TOKEN_TTL_MAX=1h", "TLS_CERT_FILE=cert.pem", "TLS_KEY_FILE=key.pem")
}
