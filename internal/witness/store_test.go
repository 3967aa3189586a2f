package witness_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/witness"
)

func TestOneProcessHasTheState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	first, err := witness.CreateStore(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := witness.OpenStore(path); err == nil {
		t.Error("the state is open twice")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := witness.OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

// A witness that lost its memory must be noticed, not begin anew.
func TestAStateIsNeitherMadeNorReplacedByChance(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if _, err := witness.OpenStore(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opening none: %v", err)
	}
	for _, text := range []string{"", "{}", "null", "x", `{"version":2,"cosigned":{},"watched":{}}`, `{"version":1,"cosigned":{},"watched":{}`, `{"version":1,"watched":{}}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := witness.OpenStore(path); err == nil {
			t.Errorf("%q is taken for a state", text)
		}
		if _, err := witness.CreateStore(path); !errors.Is(err, os.ErrExist) {
			t.Errorf("making one where there is one: %v", err)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != text {
			t.Errorf("%q became %q, %v", text, kept, err)
		}
	}
	if _, err := witness.CreateStore(filepath.Join(t.TempDir(), "no", "such", "folder")); err == nil {
		t.Error("a state was made in no folder")
	}
}

// What a crash left of a write that was not finished is no obstacle.
func TestAnUnfinishedWriteIsForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path+".new", []byte(`{"version":1,"cos`), 0o644); err != nil {
		t.Fatal(err)
	}
	store, err := witness.CreateStore(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
