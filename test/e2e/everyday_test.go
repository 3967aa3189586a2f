package e2e_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// cli runs commands as one client of a server.
type cli struct {
	t   *testing.T
	dir string
	env []string
}

// says runs a command that must end with the code and say these things, on either output.
func (c cli) says(code int, parts []string, args ...string) string {
	c.t.Helper()
	r := run(c.t, c.dir, c.env, args...)
	if r.code != code {
		c.t.Errorf("agentidp %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	contains(c.t, r.stdout+r.stderr, parts...)
	return r.stdout
}

// field reads a line of a table of one thing.
func field(t *testing.T, text, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + ` +(\S+)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s in\n%s", name, text)
	}
	return m[1]
}

// TestTheEverydayCommands goes through the life of an agent on the command line (R1, R3, R36).
func TestTheEverydayCommands(t *testing.T) {
	s := start(t, t.TempDir())
	admin := cli{t, t.TempDir(), s.as(s.first(t))}
	made := admin.says(0, []string{"files:read files:write", "active", "15m0s", `{"a":1}`}, "agents", "create", "--email", "one@example.com", "--type", "reader",
		"--agent-version", "v1.0.0", "--capability", "files:write,files:read", "--owner", "ops", "--env", "staging", "--metadata", `{"a": 1}`, "--ttl", "15m")
	id, secret := field(t, made, "client id"), field(t, made, "client secret")
	one := cli{t, t.TempDir(), []string{"AGENTIDP_ISSUER=" + s.base, "AGENTIDP_CLIENT_ID=" + id, "AGENTIDP_CLIENT_SECRET=" + secret}}

	token := strings.TrimSpace(one.says(0, nil, "token", "--scope", "files:read", "--resource", "https://files.example.com"))
	if strings.Count(token, ".") != 2 || strings.ContainsAny(token, " \n") {
		t.Errorf("the token is %q", token)
	}
	one.says(0, []string{`"token_type":"Bearer"`, `"expires_in":900`, `"scope":"files:read files:write"`}, "token", "--json")
	one.says(3, []string{"invalid_scope"}, "token", "--scope", "files:delete")
	one.says(3, []string{"invalid_scope"}, "agents", "list")

	admin.says(0, []string{"ID ", "LAST TOKEN", "one@example.com", "administrator"}, "agents", "list")
	if lines := strings.Split(strings.TrimSpace(admin.says(0, nil, "agents", "list", "--owner", "ops", "--json")), "\n"); len(lines) != 1 || !json.Valid([]byte(lines[0])) {
		t.Errorf("the list as JSON: %q", lines)
	}
	if text := admin.says(0, nil, "agents", "list", "--limit", "1"); strings.Count(text, "\n") != 2 {
		t.Errorf("one agent at most: %s", text)
	}
	admin.says(0, []string{"one@example.com", "last token      20"}, "agents", "show", id)
	admin.says(0, []string{`"email":"one@example.com"`}, "agents", "show", "one@example.com", "--json")
	admin.says(4, []string{`there is no agent "two@example.com"`}, "agents", "show", "two@example.com")
	admin.says(4, []string{"AGENT_NOT_FOUND"}, "agents", "show", "3f1d8a52-6c1e-4b8e-9a56-0d3f4f1f9b11")
	admin.says(0, []string{"v1.1.0", `{"b":2}`, "token lifetime  -"}, "agents", "update", id, "--agent-version", "v1.1.0", "--metadata", `{"a":null,"b":2}`, "--ttl", "0")
	admin.says(1, []string{"say what to change"}, "agents", "update", id)
	admin.says(1, []string{"VALIDATION_ERROR", "version must be"}, "agents", "update", id, "--agent-version", "one")
	admin.says(1, []string{"--metadata"}, "agents", "update", id, "--metadata", "{")
	admin.says(1, []string{"--ttl"}, "agents", "update", id, "--ttl", "1500ms")
	admin.says(5, []string{"AGENT_ALREADY_EXISTS"}, "agents", "create", "--email", "one@example.com", "--type", "reader",
		"--agent-version", "v1.0.0", "--capability", "files:read", "--owner", "ops", "--env", "staging")

	next := admin.says(0, []string{"expires        20"}, "credentials", "create", id, "--label", "blue", "--expires-at", "2027-01-02T03:04:05Z")
	list := admin.says(0, []string{"LABEL", "blue", "active", "LAST USED"}, "credentials", "list", "one@example.com")
	if strings.Contains(list, "sidp_") || strings.Count(list, "\n") != 3 {
		t.Errorf("the credentials: %s", list)
	}
	admin.says(1, []string{"--expires-at"}, "credentials", "create", id, "--expires-at", "tomorrow")
	admin.says(1, []string{"--overlap"}, "credentials", "rotate", id, field(t, next, "credential"), "--overlap", "1ms")
	rotated := admin.says(0, []string{`"rotatedFrom":"` + field(t, next, "credential")}, "credentials", "rotate", id, field(t, next, "credential"), "--overlap", "1h", "--json")
	admin.says(0, nil, "credentials", "revoke", id, field(t, next, "credential"))
	admin.says(4, []string{"CREDENTIAL_NOT_FOUND"}, "credentials", "revoke", id, "3f1d8a52-6c1e-4b8e-9a56-0d3f4f1f9b11")
	successor := decode[credential](t, reply{body: []byte(rotated)})
	if s.token(t, successor, "files:read") == "" {
		t.Error("the successor gets no token")
	}

	admin.says(0, []string{"suspended"}, "agents", "suspend", "one@example.com", "--reason", "leaked")
	one.says(3, []string{"invalid_client"}, "token")
	admin.says(5, []string{"CONFLICT"}, "agents", "suspend", id)
	admin.says(0, []string{"active"}, "agents", "reactivate", id)
	one.says(0, nil, "token")
	admin.says(0, []string{"revoked"}, "agents", "revoke", id)
	admin.says(0, nil, "agents", "delete", id)
	admin.says(0, []string{"archived"}, "agents", "list", "--status", "archived")

	// Nobody hands out more than they hold, and asks for no more than needed.
	auditor := []string{"agents", "create", "--email", "auditor@example.com", "--type", "auditor", "--agent-version", "v1.0.0", "--capability", "audit:read", "--owner", "ops", "--env", "staging"}
	admin.says(3, []string{"INSUFFICIENT_SCOPE", "audit:read"}, auditor...)
	admin.says(0, []string{"audit:read"}, append(auditor, "--with-scope", "audit:read")...)
	admin.says(4, []string{"NOT_FOUND"}, "agents", "list", "--organization", "3f1d8a52-6c1e-4b8e-9a56-0d3f4f1f9b11")

	// A secret may stand in a file, and a server must be named.
	secretFile := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secretFile, []byte(strings.TrimPrefix(admin.env[2], "AGENTIDP_CLIENT_SECRET=")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cli{t, admin.dir, []string{admin.env[1], "AGENTIDP_CLIENT_SECRET_FILE=" + secretFile}}.says(0, []string{"admin@"}, "agents", "list", "--url", s.base+"/")
	cli{t, admin.dir, admin.env[1:]}.says(1, []string{"--url: say which server"}, "agents", "list")
	s.stop(t)
	admin.says(6, nil, "agents", "list")
}

func TestTheShellsComplete(t *testing.T) {
	dir := t.TempDir()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script := mustRun(t, dir, nil, "completion", shell).stdout
		contains(t, script, "agentidp", "__complete")
		if path, err := exec.LookPath(shell); err == nil { // what the shell itself says of it
			cmd := exec.CommandContext(t.Context(), path, "-n")
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s refuses the script: %v %s", shell, err, out)
			}
		}
	}
	contains(t, mustRun(t, dir, nil, "__complete", "agents", "").stdout, "import\t", "suspend\t", "export\t")
	contains(t, mustRun(t, dir, nil, "__complete", "agents", "list", "--status", "").stdout, "active", "archived")
	contains(t, mustRun(t, dir, nil, "__complete", "agents", "create", "--env", "").stdout, "staging")
}

// importLine is a line of an import.
func importLine(email, more string) string {
	return `{"email":"` + email + `","agentType":"x","version":"1.0.0","capabilities":["files:read"],"owner":"ops","deploymentEnv":"staging"` + more + "}\n"
}

// TestAnImportReports: what failed, where secrets went, and which nobody has.
func TestAnImportReports(t *testing.T) {
	s := start(t, t.TempDir(), "SECRET_HASHER=hmac")
	admin := cli{t, t.TempDir(), s.as(s.first(t))}
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "agents.ndjson")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write(importLine("a@example.com", "") + "\n" + importLine("b@example.com", `,"credential":{"label":"first"}`) + importLine("nobody", "") + "{\n" + strings.TrimSuffix(importLine("c@example.com", ""), "\n"))
	admin.says(1, []string{"line 3 asks for a credential", "--results FILE"}, "agents", "import", file)
	results := filepath.Join(t.TempDir(), "results.ndjson")
	admin.says(2, []string{"line 4: VALIDATION_ERROR: the request is invalid; email must be", "line 5: VALIDATION_ERROR", "5 lines: 3 created, 0 unchanged, 2 failed", "2 of 5 lines failed"},
		"agents", "import", file, "--results", results)
	info, err := os.Stat(results)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the results: %v %v", info, err)
	}
	text, err := os.ReadFile(results)
	if err != nil || bytes.Count(text, []byte("sidp_")) != 1 || !bytes.Contains(text, []byte(`{"line":6,"result":"created"`)) || !bytes.Contains(text, []byte(`"rule":"format"`)) {
		t.Errorf("the results: %s %v", text, err)
	}

	// Again, with the results: their secret is known. Without them nobody has it.
	file = write(importLine("a@example.com", "") + importLine("b@example.com", `,"credential":{}`))
	if err := os.WriteFile(results, append(text, `{"line":7,"res`...), 0o600); err != nil { // as a kill leaves it
		t.Fatal(err)
	}
	if out := admin.says(0, []string{"2 lines: 0 created, 2 unchanged"}, "agents", "import", file, "--results", results); strings.Contains(out, "nobody has") {
		t.Errorf("a known secret is said to be lost: %s", out)
	}
	if text, err = os.ReadFile(results); err != nil || !bytes.Contains(text, []byte("\n{\"line\":1,\"result\":\"unchanged\"")) {
		t.Errorf("the results: %s %v", text, err)
	}
	out := admin.says(0, []string{"nobody has the secret of b@example.com: agentidp credentials create b@example.com", "2 lines: 0 created, 2 unchanged"}, "agents", "import", file, "--json")
	for line := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("standard output has %q", line)
		}
	}

	// From standard input, past a server that is away, and a line that is far too long.
	cmd := command(t.Context(), t, admin.dir, admin.env, "agents", "import", "-")
	cmd.Stdin = strings.NewReader(importLine("d@example.com", ""))
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "1 created") {
		t.Errorf("from standard input: %v %s", err, out)
	}
	admin.says(2, []string{"line 1: PAYLOAD_TOO_LARGE", "1 created"}, "agents", "import", write(importLine("long@example.com", `,"metadata":{"x":"`+strings.Repeat("x", 100<<10)+`"}`)+importLine("e@example.com", "")))
	admin.says(1, []string{"line 2 is longer than 1 MiB", "1 created"}, "agents", "import", write(importLine("f@example.com", "")+strings.Repeat("x", 2<<20)))
	admin.says(1, []string{"no such file"}, "agents", "import", "nowhere.ndjson")
	s.stop(t)
	admin.says(6, []string{"importing from line 1 on"}, "agents", "import", file, "--results", results, "--patience", "1s")
}
