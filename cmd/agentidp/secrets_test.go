package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

func freshSecret(t *testing.T) (text, keyID string) {
	t.Helper()
	s, err := credential.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s.Value().Reveal(), s.KeyID()
}

// scanning runs the command and gives what it says.
func scanning(t *testing.T, environ []string, stdin string, want int, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	root := rootCommand(environ)
	root.SetArgs(append([]string{"secrets", "scan"}, args...))
	root.SetIn(strings.NewReader(stdin))
	root.SetOut(&out)
	root.SetErr(&errs)
	err := root.ExecuteContext(t.Context())
	if code := exitCode(err); code != want {
		t.Fatalf("scan %v: exit code %d, want %d: %v\n%s%s", args, code, want, err, &out, &errs)
	}
	return out.String() + errs.String() + fmt.Sprint(err)
}

// tree writes a sample tree with the secret in three places, and what only looks like one.
func tree(t *testing.T, secret string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"README.md":          "Nothing here. A secret begins with sidp_ and is 66 characters long.\n",
		"src/main.go":        "package main\n\n// " + secret[:40] + "\nconst key = \"" + secret + "\"\n",
		"deploy/.env":        "A=1\nCLIENT_SECRET=" + secret + "\n",
		"deploy/typo":        secret[:len(secret)-1] + "!\n" + strings.Replace(secret, secret[30:31], string('a'+(secret[30]+1)%25), 1) + "\n",
		"vendor/blob.bin":    "\x00\x01\xff" + secret + "\x00",
		"vendor/other.token": "ghp_0123456789abcdefghijABCDEFGHIJ012345\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAScanFindsSecretsAndNeverShowsThem(t *testing.T) {
	secret, keyID := freshSecret(t)
	dir := tree(t, secret)
	said := scanning(t, nil, "", exitFound, dir)
	for _, want := range []string{"/src/main.go:4: client secret of key id " + keyID, "/deploy/.env:2: ", "/vendor/blob.bin:1: ", "3 client secrets in 6 files"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if strings.Contains(said, secret) || strings.Contains(said, secret[20:]) || strings.Contains(said, "typo") {
		t.Errorf("it shows a secret, or what is none:\n%s", said)
	}
	if said := scanning(t, nil, "x\n"+secret, exitFound, "-"); !strings.Contains(said, "-:2: ") {
		t.Errorf("of standard input it says %s", said)
	}
	clean := filepath.Join(dir, "README.md")
	if said := scanning(t, nil, "", 0, clean); !strings.Contains(said, "no client secret in 1 files") {
		t.Errorf("of a clean file it says %s", said)
	}
	// What was not looked at is never called clean.
	for _, args := range [][]string{{"--max-file-bytes", "10", clean}, {filepath.Join(dir, "missing")}, {clean, filepath.Join(dir, "missing")}} {
		if said := scanning(t, nil, "", 1, args...); !strings.Contains(said, "was not read") {
			t.Errorf("%v: %s", args, said)
		}
	}
	scanning(t, nil, "", 1, "--max-file-bytes", "0", clean)
	scanning(t, nil, "", 1)
	odd := filepath.Join(dir, "odd\x1b[2J\nname")
	if err := os.WriteFile(odd, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := scanning(t, nil, "", exitFound, odd); strings.Contains(said, "\x1b") {
		t.Errorf("a name fools the terminal: %q", said)
	}
	if err := os.Symlink(odd, filepath.Join(dir, "src", "link")); err != nil {
		t.Fatal(err)
	}
	if said := scanning(t, nil, "", exitFound, filepath.Join(dir, "src")); strings.Contains(said, "link") {
		t.Errorf("a link was followed: %s", said)
	}
}

func TestAScanAsksAServerWhatIsLiveByKeyIdsAlone(t *testing.T) {
	contract, err := apptest.LoadContract()
	if err != nil {
		t.Fatal(err)
	}
	s := apptest.Start(t, contract)
	a := s.Register(s.Admin(), "leaky", "", "invoices:read")
	stranger, _ := freshSecret(t)
	file := write(t, "env", a.Secret+"\n"+stranger+"\n"+s.AdminSecret+"\n")
	environ := []string{"AGENTIDP_CLIENT_ID=" + s.AdminID, "AGENTIDP_CLIENT_SECRET=" + s.AdminSecret}
	said := scanning(t, environ, "", exitFound, "--url", s.URL, file)
	for _, want := range []string{"active, of agent " + a.ID, "unknown\n", "active, of agent " + s.AdminID} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if strings.Contains(s.Logs.String(), a.Secret[20:]) {
		t.Error("the server heard a secret")
	}
	// It found them, whatever the server says.
	if said := scanning(t, nil, "", exitFound, "--url", s.URL, file); !strings.Contains(said, "AGENTIDP_CLIENT_ID") {
		t.Errorf("without a client it says %s", said)
	}
}

// TestGitleaksFindsTheSame runs the real scanner with the rule that is published, where
// AGENTIDP_GITLEAKS names it (make gitleaks).
func TestGitleaksFindsTheSame(t *testing.T) {
	program := os.Getenv("AGENTIDP_GITLEAKS")
	if program == "" {
		t.Skip("AGENTIDP_GITLEAKS does not name the program; the rule's pattern is tried by itself")
	}
	secret, _ := freshSecret(t)
	dir, report := tree(t, secret), filepath.Join(t.TempDir(), "report.json")
	rule, err := filepath.Abs(filepath.Join("..", "..", "docs", "gitleaks.toml"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "dir", "--config", rule, "--report-path", report, "--exit-code", "7", dir).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 7 {
		t.Fatalf("gitleaks ended with %v:\n%s", err, out)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var findings []struct {
		File, Secret, RuleID string
		StartLine            int
	}
	if err := json.Unmarshal(text, &findings); err != nil {
		t.Fatal(err)
	}
	confirmed := map[string]int{}
	for _, f := range findings {
		if f.RuleID != "sentryagent-client-secret" {
			t.Errorf("the rule %s found something", f.RuleID)
		}
		// The pattern finds the mistyped one too; the checksum tells.
		if _, err := credential.ParseSecret(f.Secret); err == nil {
			confirmed[filepath.Base(f.File)] = f.StartLine
		} else if filepath.Base(f.File) != "typo" {
			t.Errorf("it found %q in %s", f.Secret, f.File)
		}
	}
	if confirmed["main.go"] != 4 || confirmed[".env"] != 2 || confirmed["typo"] != 0 || confirmed["README.md"] != 0 || confirmed["other.token"] != 0 {
		t.Errorf("it found %+v", findings)
	}
}
