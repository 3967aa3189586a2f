package e2e_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// hexSecret gives a root secret of 64 characters.
func hexSecret(digits string) string { return strings.Repeat(digits, 64/len(digits)) }

// contains checks what a command printed.
func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// fails runs a command that must say on standard error what is wrong, and exit
// with 1.
func fails(t *testing.T, dataDir string, env, says []string, args ...string) {
	t.Helper()
	r := run(t, dataDir, env, args...)
	if r.code != 1 {
		t.Errorf("agentidp %s: exit code %d, want 1\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	contains(t, r.stderr, append(says, "agentidp: ")...)
	if strings.Contains(r.stderr, "goroutine ") {
		t.Errorf("a stack instead of a message:\n%s", r.stderr)
	}
}

func TestQuickstart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "quickstart")
	for range 2 {
		r := mustRun(t, dir, nil, "quickstart", "--exit")
		contains(t, r.stdout,
			"\n1. Register an agent", "\n2. It gets a token", "\n3. A service verifies it", "\n4. The agent is compromised", "\n5. All of it is on record",
			"before: introspection says active=true", "after:  introspection says active=false", "invalid_client",
			"agent.created", "token.issued", "agent.suspended", "token.denied")
		if r.stderr != "" {
			t.Errorf("standard error: %s", r.stderr)
		}
	}
}

func TestAdminBootstrap(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	s.first(t)
	admin := readCredential(t, mustRun(t, dir, nil, "admin", "bootstrap", "--email", "second@example.com").stdout)
	r, err := s.tokenReply(admin, management)
	if err != nil || r.status != http.StatusOK || decode[tokenAnswer](t, r).Scope != management {
		for scope := range strings.FieldsSeq(management) {
			contains(t, decode[tokenAnswer](t, r).Scope, scope)
		}
	}
	s.mustCall(t, http.MethodGet, "/organizations", s.token(t, admin, management), nil, http.StatusOK)
	fails(t, dir, nil, []string{"already", "name another with --email"}, "admin", "bootstrap", "--email", "second@example.com")
	fails(t, dir, nil, []string{"already", "name another with --email"}, "admin", "bootstrap")
	fails(t, dir, nil, []string{"email must be"}, "admin", "bootstrap", "--email", "nobody")
}

func TestHealthCommand(t *testing.T) {
	s := start(t, t.TempDir())
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"health", "--url", s.base}, {"health", "--url", s.base + "/"}, {"health", "--port", port}} {
		contains(t, mustRun(t, t.TempDir(), nil, args...).stdout, `"status":"ok"`, `"database"`)
	}
	s.stop(t)
	fails(t, t.TempDir(), nil, []string{"the server does not answer"}, "health", "--port", port)
}

// certificate writes a certificate that the machine does not trust, and its key.
func certificate(t *testing.T, names ...string) (certFile, keyFile string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// serveTLS runs a server until the test ends, and gives its port.
func serveTLS(t *testing.T, env []string) string {
	t.Helper()
	s := &server{exited: make(chan struct{})}
	s.cmd = command(context.WithoutCancel(t.Context()), t, t.TempDir(), env, "serve")
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.exited)
		_ = s.cmd.Wait() // the state is read from ProcessState
	}()
	t.Cleanup(func() { s.stop(t) })
	waitFor(t, "the server's address", func() bool { return s.over() || listensLine.MatchString(s.stderr.String()) })
	if s.over() {
		t.Fatalf("the server ended:\n%s", s.stderr.String())
	}
	_, port, err := net.SplitHostPort(listensLine.FindStringSubmatch(s.stderr.String())[1])
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestHealthCommandWithTLS asks a server whose certificate is made out to another
// name than the address asked, and is that of the configuration or is not.
func TestHealthCommandWithTLS(t *testing.T) {
	for _, names := range [][]string{{"other.example.com", "idp.example.com"}, {"*.example.org"}} {
		cert, key := certificate(t, names...)
		env := []string{"JWT_ISSUER=https://idp.example.com", "TLS_CERT_FILE=" + cert, "TLS_KEY_FILE=" + key}
		port := serveTLS(t, env)
		contains(t, mustRun(t, t.TempDir(), env, "health", "--port", port).stdout, `"status":"ok"`)
		forged, _ := certificate(t, names...)
		fails(t, t.TempDir(), append(env, "TLS_CERT_FILE="+forged), []string{"the server does not answer", "certificate"}, "health", "--port", port)
		fails(t, t.TempDir(), env, []string{"the server does not answer", "certificate"}, "health", "--url", "https://127.0.0.1:"+port)
		fails(t, t.TempDir(), append(env, "TLS_CERT_FILE="+key), []string{"TLS_CERT_FILE: ", "no certificate"}, "health", "--port", port)
	}
}

// settingNames are the settings that operators may rely on.
const settingNames = `APP_ENV HOST PORT DATA_DIR DATABASE_URL JWT_SECRET JWT_SECRET_PREVIOUS JWT_ISSUER JWT_ALG SECRET_HASHER
TOKEN_TTL TOKEN_TTL_MAX AUDIT_RETENTION_DAYS RATE_LIMIT RATE_LIMIT_SOURCE RATE_LIMIT_CLIENT CACHE_ENTRIES MAX_CONNECTIONS CORS_ORIGINS
TLS_CERT_FILE TLS_KEY_FILE TRUSTED_PROXIES LOG_LEVEL SHUTDOWN_TIMEOUT`

var flagLine = regexp.MustCompile(`(?m)^      --([a-z-]+) string `)

func TestConfigAndVersion(t *testing.T) {
	env := []string{"JWT_SECRET=" + hexSecret("c0ffee11")}
	table := mustRun(t, t.TempDir(), env, "config").stdout
	example := mustRun(t, t.TempDir(), env, "config", "--example").stdout
	for name := range strings.FieldsSeq(settingNames) {
		if !regexp.MustCompile(`(?m)^` + name + ` `).MatchString(table) {
			t.Errorf("config does not print %s", name)
		}
		contains(t, example, "\n#"+name+"=")
	}
	for _, flag := range flagLine.FindAllStringSubmatch(mustRun(t, t.TempDir(), nil, "--help").stdout, -1) {
		name := strings.ToUpper(strings.ReplaceAll(flag[1], "-", "_"))
		if name != "ENV_FILE" {
			contains(t, table, name)
		}
	}
	if strings.Contains(table+example, hexSecret("c0ffee11")) {
		t.Error("config prints a secret")
	}
	if v := mustRun(t, t.TempDir(), nil, "version").stdout; !regexp.MustCompile(`^agentidp \S+\n$`).MatchString(v) {
		t.Errorf("version prints %q", v)
	}
}

func TestEnvFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings")
	if err := os.WriteFile(file, []byte("LOG_LEVEL=loud\nTOKEN_TTL=5m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, t.TempDir(), nil, []string{"LOG_LEVEL: must be debug, info, warn or error"}, "migrate", "--env-file", file)
	mustRun(t, t.TempDir(), []string{"LOG_LEVEL=warn"}, "migrate", "--env-file", file)
	mustRun(t, t.TempDir(), nil, "migrate", "--env-file", file, "--log-level", "warn")
}

func TestHelp(t *testing.T) {
	seen := help(t, nil, "")
	if seen < 10 {
		t.Errorf("only %d commands", seen)
	}
}

var commandLine = regexp.MustCompile(`(?m)^  ([a-z]+) +(\S.*)$`)

// help reads the help of a command and of all under it, and counts them. Who
// reads it must learn more than the one line that lists the command: by an
// example, a text, or the commands under it.
func help(t *testing.T, path []string, short string) int {
	t.Helper()
	text := mustRun(t, t.TempDir(), nil, append(path, "--help")...).stdout
	about, usage, ok := strings.Cut(text, "Usage:")
	if !ok || strings.TrimSpace(about) == "" {
		t.Errorf("agentidp %s --help:\n%s", strings.Join(path, " "), text)
	}
	_, list, hasCommands := strings.Cut(usage, "Available Commands:\n")
	name := strings.Join(path, " ")
	if !hasCommands && !strings.Contains(usage, "Examples:") && strings.TrimSpace(about) == short {
		t.Errorf("agentidp %s has neither an example nor a text", name)
	}
	count := 1
	list, _, _ = strings.Cut(list, "\n\n")
	for _, c := range commandLine.FindAllStringSubmatch(list, -1) {
		if c[1] != "help" {
			count += help(t, append(slices.Clip(path), c[1]), c[2])
		}
	}
	return count
}

func TestUnknownWordsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"srve"}, {"keys", "rotated"}, {"admin", "boot"}} {
		fails(t, t.TempDir(), nil, []string{"unknown command"}, args...)
	}
	fails(t, t.TempDir(), nil, []string{"unknown flag"}, "serve", "--prot", "1")
	fails(t, t.TempDir(), nil, []string{"unknown command"}, "serve", "now")
}

func TestRefusedConfigurations(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	_, port, err := net.SplitHostPort(taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	good := "JWT_SECRET=" + hexSecret("a1b2c3d4")
	for name, c := range map[string]struct{ env, says []string }{
		"production without a secret":  {[]string{"APP_ENV=production", "JWT_ISSUER=https://idp.example.com"}, []string{"JWT_SECRET: is required in production", "openssl rand -hex 32"}},
		"node's production":            {[]string{"NODE_ENV=production", "JWT_ISSUER=https://idp.example.com"}, []string{"JWT_SECRET: is required in production"}},
		"production with an example":   {[]string{"APP_ENV=production", "JWT_ISSUER=https://idp.example.com", "JWT_SECRET=changeme-changeme-changeme-changeme"}, []string{"JWT_SECRET: is a known example"}},
		"production without an issuer": {[]string{"APP_ENV=production", good}, []string{"JWT_ISSUER: is required in production"}},
		"production in the clear":      {[]string{"APP_ENV=production", good, "JWT_ISSUER=http://idp.example.com"}, []string{"JWT_ISSUER: must be https"}},
		"a short secret":               {[]string{"JWT_SECRET=short"}, []string{"JWT_SECRET: must have at least 32 bytes"}},
		"several at once":              {[]string{"PORT=x", "TOKEN_TTL=1s"}, []string{"PORT: must be", "TOKEN_TTL: must be"}},
		"a port that is taken":         {[]string{"PORT=" + port}, []string{"PORT", port, "in use"}},
		"a secret file that is gone":   {[]string{"JWT_SECRET_FILE=/nowhere"}, []string{"JWT_SECRET_FILE", "/nowhere"}},
	} {
		t.Run(name, func(t *testing.T) { fails(t, t.TempDir(), c.env, c.says, "serve") })
	}
}

// logLines reads the log: every line of it is JSON.
func logLines(t *testing.T, text string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(text) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Errorf("the log line %q: %v", line, err)
		}
		all = append(all, one)
	}
	return all
}
