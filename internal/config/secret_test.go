package config_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/config"
)

func TestASecretMayStandInAFile(t *testing.T) {
	for name, content := range map[string]string{
		"bare": good, "with a newline": good + "\n", "with a newline of Windows": good + "\r\n",
	} {
		if got := mustLoad(t, "JWT_SECRET_FILE="+file(t, content)).RootSecret.Reveal(); got != good {
			t.Errorf("%s: read %q, want %q", name, got, good)
		}
	}
	if got := mustLoad(t, "JWT_SECRET_FILE="+file(t, " "+good+" ")).RootSecret.Reveal(); got != " "+good+" " {
		t.Errorf("read %q: only the newline at the end is no part of a secret", got)
	}
	if got := mustLoad(t, "DATABASE_URL_FILE="+file(t, "sqlite:/db\n")).DatabaseURL.Reveal(); got != "sqlite:/db" {
		t.Errorf("DATABASE_URL is %q, want that of the file", got)
	}
	c, err := config.Load(config.Sources{Flags: map[string]string{"JWT_SECRET_FILE": file(t, good)}, Environ: []string{"JWT_SECRET=" + strings.Repeat("other", 8)}})
	if err != nil || c.RootSecret.Reveal() != good {
		t.Errorf("a flag's file does not win over the environment: %v", err)
	}
}

func TestASecretFileThatCannotServeIsRefused(t *testing.T) {
	_, err := load("JWT_SECRET="+good, "JWT_SECRET_FILE="+file(t, good))
	refused(t, err, "JWT_SECRET and JWT_SECRET_FILE are both set")
	_, err = load("JWT_SECRET_FILE=" + filepath.Join(t.TempDir(), "missing"))
	refused(t, err, "JWT_SECRET_FILE: ", "no such file")
	// Taken for no secret at all, an empty one would be made up in its place.
	_, err = load("JWT_SECRET_FILE=" + file(t, "\n"))
	refused(t, err, "JWT_SECRET_FILE: ", "is empty")
	_, err = load("JWT_SECRET_FILE=/missing/a", "JWT_SECRET_PREVIOUS_FILE=/missing/b", "PORT=http")
	refused(t, err, "JWT_SECRET_FILE: ", "JWT_SECRET_PREVIOUS_FILE: ", "PORT: ")
}

// Production refuses what is not safe (R43).
func TestProductionRefusesWhatIsNotSafe(t *testing.T) {
	mustLoad(t, production()...)
	for name, c := range map[string]struct {
		environ []string
		says    string
	}{
		"no secret":      {[]string{"APP_ENV=production", "JWT_ISSUER=https://idp.example.com"}, "JWT_SECRET: is required in production"},
		"a short secret": {production("JWT_SECRET=" + good[1:]), "JWT_SECRET: must have at least 32 bytes"},
		"no issuer":      {[]string{"APP_ENV=production", "JWT_SECRET=" + good}, "JWT_ISSUER: is required in production"},
		"an http issuer": {production("JWT_ISSUER=http://idp.example.com"), "JWT_ISSUER: must be https in production"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(c.environ...)
			refused(t, err, c.says)
		})
	}
	for _, example := range []string{
		"changeme-changeme-changeme-changeme", "CHANGE_ME_to_something_of_32_bytes", "your-secret-key-your-secret-key-1", "this-is-an-example-of-32-bytes-!!",
		"password-password-password-password", "my-super-secret-key-of-32-bytes-!", strings.Repeat("a", 40), "0123456789abcdef0123456789abcdef",
	} {
		_, err := load(production("JWT_SECRET=" + example)...)
		refused(t, err, "JWT_SECRET: is a known example value")
		mustLoad(t, "JWT_SECRET="+example)
	}
}

// A listener on all interfaces is never the default in development (R43).
func TestWhereTheServerListensAndInWhichMode(t *testing.T) {
	for name, c := range map[string]struct {
		environ    []string
		production bool
		host       string
	}{
		"nothing said":               {nil, false, "127.0.0.1"},
		"development":                {[]string{"APP_ENV=development"}, false, "127.0.0.1"},
		"production":                 {production(), true, "0.0.0.0"},
		"production on one address":  {production("HOST=10.0.0.1"), true, "10.0.0.1"},
		"development on all, if bid": {[]string{"HOST=0.0.0.0"}, false, "0.0.0.0"},
		"NODE_ENV=production":        {production("APP_ENV=", "NODE_ENV=production"), true, "0.0.0.0"},
		"another NODE_ENV":           {[]string{"NODE_ENV=test"}, false, "127.0.0.1"},
		"APP_ENV before NODE_ENV":    {[]string{"APP_ENV=development", "NODE_ENV=production"}, false, "127.0.0.1"},
	} {
		got := mustLoad(t, c.environ...)
		if got.Production != c.production || got.Host != c.host {
			t.Errorf("%s: production = %t on %s, want %t on %s", name, got.Production, got.Host, c.production, c.host)
		}
	}
	_, err := load("NODE_ENV=production")
	refused(t, err, "JWT_SECRET: is required in production")
}

func TestWarningsNameWhatIsNotFitForProduction(t *testing.T) {
	for name, c := range map[string]struct {
		environ []string
		says    []string
	}{
		"development":      {[]string{"RATE_LIMIT=off"}, []string{"APP_ENV", "JWT_SECRET", "TLS", "RATE_LIMIT", "embedded storage"}},
		"production":       {production(), []string{"TLS", "embedded storage"}},
		"behind a proxy":   {production("TRUSTED_PROXIES=10.0.0.0/8"), []string{"embedded storage"}},
		"with TLS of ours": {production("TLS_CERT_FILE=c", "TLS_KEY_FILE=k"), []string{"embedded storage"}},
	} {
		got := mustLoad(t, c.environ...).Warnings()
		if len(got) != len(c.says) {
			t.Errorf("%s: warnings %q, want of %q", name, got, c.says)
			continue
		}
		for i, s := range c.says {
			if !strings.Contains(got[i], s) {
				t.Errorf("%s: the warning %q is not of %s", name, got[i], s)
			}
		}
	}
}

// Neither an error nor a print of the configuration holds a secret (R37).
func TestNoSecretIsRepeated(t *testing.T) {
	const marker = "SECRETMARKER-of-at-least-32-bytes"
	c := mustLoad(t, "JWT_SECRET="+marker, "JWT_SECRET_PREVIOUS="+marker)
	said := fmt.Sprintf("%v %+v %#v %v", c, c, *c, c.Warnings())
	for _, environ := range [][]string{
		{"JWT_SECRET=" + marker, "JWT_SECRET_PREVIOUS=" + marker, "PORT=http"},
		{"JWT_SECRET=SECRETMARKER", "JWT_SECRET_PREVIOUS=SECRETMARKER"},
		{"JWT_SECRET=" + marker, "JWT_SECRET_FILE=" + file(t, marker)},
		{"DATABASE_URL=mysql://u:SECRETMARKER@h/db"},
		production("JWT_SECRET=example-" + marker),
		production("JWT_SECRET_FILE="+file(t, marker), "JWT_ISSUER=http://u:SECRETMARKER@h"),
	} {
		_, err := load(environ...)
		if err == nil {
			t.Errorf("nothing was refused of %q", environ)
		}
		said += fmt.Sprint(err)
	}
	if strings.Contains(said, "SECRETMARKER") {
		t.Errorf("a secret is repeated: %s", said)
	}
}

func TestSecretsHaveNoFlagThatOthersCouldRead(t *testing.T) {
	for _, s := range config.Settings() {
		got := strings.Join(s.Flags(), " ")
		want := s.Name
		if strings.HasPrefix(s.Name, "JWT_SECRET") || s.Name == "REDIS_URL" || s.Name == "AUDIT_STREAM_WEBHOOK_SECRET" {
			want = s.Name + "_FILE"
		} else if s.Name == "DATABASE_URL" {
			want = s.Name + " " + s.Name + "_FILE"
		}
		if got != want {
			t.Errorf("%s has the flags %q, want %q", s.Name, got, want)
		}
	}
}

func TestDescribeNamesEverySetting(t *testing.T) {
	var out bytes.Buffer
	if err := config.Describe(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for i, s := range config.Settings() {
		line := lines[i+1]
		if !strings.HasPrefix(line, s.Name+" ") || !strings.HasSuffix(line, s.Meaning) || !strings.Contains(line, s.Default+s.DefaultNote) {
			t.Errorf("the line %q does not describe %s", line, s.Name)
		}
		if s.Secret && !strings.Contains(line, s.Name+"_FILE") {
			t.Errorf("the line %q does not say that a file may hold the secret", line)
		}
	}
}

func TestTheExampleFileIsTheTableOfSettings(t *testing.T) {
	var want bytes.Buffer
	if err := config.Example(&want); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "..", ".env.example")
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf(".env.example is not up to date (%v); renew it: go run ./cmd/agentidp config --example > .env.example", err)
	}
	for _, s := range config.Settings() {
		if !bytes.Contains(got, []byte("\n#"+s.Name+"="+s.Default+"\n")) {
			t.Errorf(".env.example does not hold %s", s.Name)
		}
	}
	// Every setting of it may be uncommented as it stands.
	uncommented := regexp.MustCompile(`(?m)^#([A-Z_]+=)`).ReplaceAll(got, []byte("$1"))
	c, err := config.Load(config.Sources{DotEnv: file(t, string(uncommented))})
	if err != nil || fmt.Sprint(c) != fmt.Sprint(mustLoad(t)) {
		t.Errorf("the example gives %+v, %v, want the defaults", c, err)
	}
}

// full is a writer that takes nothing any more after some bytes.
type full int

func (f *full) Write(p []byte) (int, error) {
	if *f -= full(len(p)); *f < 0 {
		return 0, os.ErrClosed
	}
	return len(p), nil
}

func TestWhatCannotBePrintedIsReported(t *testing.T) {
	for _, room := range []full{0, 200} {
		described, example := room, room
		if config.Describe(&described) == nil || config.Example(&example) == nil {
			t.Errorf("a writer with room for %d bytes: no error", room)
		}
	}
}
