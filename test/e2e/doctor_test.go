package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// report is what doctor --json prints.
type report struct {
	Sound   bool `json:"sound"`
	Results []struct {
		Check    string   `json:"check"`
		Outcome  string   `json:"outcome"`
		Findings []string `json:"findings"`
	} `json:"results"`
}

// TestDoctorSpeaksWithItsExitCode beside a running server (R39).
func TestDoctorSpeaksWithItsExitCode(t *testing.T) {
	dir, backups := t.TempDir(), t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	env := []string{"APP_ENV=production", "HOST=127.0.0.1", "JWT_ISSUER=https://idp.example.test", "", "TRUSTED_PROXIES=127.0.0.1"}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("9f2c4e61b7a80d35c1f6e2947ab30d58e0c94b7d1f6a2835\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env[3] = "JWT_SECRET_FILE=" + secret
	s := start(t, dir, env...)
	s.token(t, s.first(t), management)
	mustRun(t, dir, env, "backup", "--to", filepath.Join(backups, "agentidp.db"))

	sound := run(t, dir, env, "doctor", "--backups", backups, "--accept", "disk") // the machine's own disk may be full
	if sound.code != 0 || sound.stdout != "" || sound.stderr != "" {
		t.Errorf("a sound installation: exit code %d\n%s%s", sound.code, sound.stdout, sound.stderr)
	}
	contains(t, mustRun(t, dir, env, "doctor", "--backups", backups, "--accept", "disk", "--all").stdout, "signing-keys: sound", "clock: sound")

	wrong := run(t, dir, append(env, "RATE_LIMIT=off"), "doctor", "--accept", "disk")
	if wrong.code != 2 || strings.Count(wrong.stdout, "\n") != 2 {
		t.Errorf("two faults: exit code %d\n%s%s", wrong.code, wrong.stdout, wrong.stderr)
	}
	contains(t, wrong.stdout, "production: wrong: RATE_LIMIT is off", "backups: wrong: no backup is seen")

	told := run(t, dir, append(env, "RATE_LIMIT=off"), "doctor", "--accept", "disk", "--backups", backups, "--json")
	var r report
	if err := json.Unmarshal([]byte(told.stdout), &r); err != nil || told.code != 2 || r.Sound {
		t.Fatalf("--json: exit code %d, %v\n%s", told.code, err, told.stdout)
	}
	for _, one := range r.Results {
		if want := map[bool]string{true: "wrong", false: "sound"}[one.Check == "production"]; one.Outcome != want && one.Check != "disk" {
			t.Errorf("%s is %s: %q, want %s", one.Check, one.Outcome, one.Findings, want)
		}
	}
	fails(t, dir, env, []string{"--accept", `"weather"`}, "doctor", "--accept", "weather")
}
