package witness_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/witness"
)

func TestAWitnessIsTheSameAfterItStartsAgain(t *testing.T) {
	key, state := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "state")
	if _, _, err := witness.OpenIdentity(key, state, "", time.Now); err == nil {
		t.Error("a new witness has no name")
	}
	var first string
	for _, name := range []string{"w.example/1", "w.example/1", ""} {
		store, cosigner, err := witness.OpenIdentity(key, state, name, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = cosigner.VerifierKey()
		}
		if cosigner.VerifierKey() != first {
			t.Errorf("it became %s", cosigner.VerifierKey())
		}
		if _, _, err := witness.OpenIdentity(key, state, name, time.Now); err == nil {
			t.Error("it runs twice")
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", info, err)
	}
	if left, err := filepath.Glob(key + ".*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, _, err := witness.OpenIdentity(key, state, "other", time.Now); err == nil {
		t.Error("it took the key of another name")
	}
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	if _, _, err := witness.OpenIdentity(key, state, "", time.Now); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "forgot what it signed") {
		t.Errorf("without its memory: %v", err)
	}
}

func TestAKeyThatOthersReadIsRefused(t *testing.T) {
	key, state := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "state")
	store, _, err := witness.OpenIdentity(key, state, "w", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	_ = store.Close()
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		if _, _, err := witness.OpenIdentity(key, state, "", time.Now); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"", "x", string(text)[:40], strings.Repeat("x", 10_000)} {
		if err := os.WriteFile(key, []byte(wrong), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := witness.OpenIdentity(key, state, "", time.Now); err == nil || strings.Contains(err.Error(), "PRIVATE+KEY+w+") {
			t.Errorf("%.20q: %v", wrong, err)
		}
	}
	for _, name := range []string{"a b", "a+b"} {
		if _, _, err := witness.OpenIdentity(key+"2", state, name, time.Now); err == nil {
			t.Errorf("the name %q is taken", name)
		}
	}
	if _, _, err := witness.OpenIdentity(filepath.Join(key, "x"), state, "w", time.Now); err == nil {
		t.Error("a key below a file")
	}
}
