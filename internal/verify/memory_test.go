package verify

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func open(t *testing.T, path string) *Memory {
	t.Helper()
	m, err := OpenMemory(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTheLastCheckpointIsRemembered(t *testing.T) {
	l := newLog(t)
	l.fill(50, time.Minute)
	path := filepath.Join(t.TempDir(), "made", "state.json")
	m := open(t, path)
	if m.Seen() != nil || m.Key() != "" || m.Log() != nil {
		t.Errorf("a new memory: %+v", m)
	}
	if err := m.Pin(l.Key); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{10, 10, 20} {
		if err := m.Remember(l.Checkpoint(size)); err != nil {
			t.Fatal(err)
		}
		if again := open(t, path); again.Key() != l.Key || again.Seen() == nil || *again.Seen() != *l.seen(size) || again.Log().Name() != l.Verifier.Name() {
			t.Errorf("remembered %+v of size %d", again, size)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestAMemoryIsNeverMadeWorse(t *testing.T) {
	l, foreign := newLog(t), newLog(t)
	l.fill(50, time.Minute)
	foreign.fill(50, time.Minute)
	path := filepath.Join(t.TempDir(), "state.json")
	m := open(t, path)
	if err := errors.Join(m.Pin(l.Key), m.Remember(l.Checkpoint(30))); err != nil {
		t.Fatal(err)
	}
	late := open(t, path)
	wrong(t, m.Remember(l.Checkpoint(29)), RolledBack, 30)
	wrong(t, m.Remember(l.fork(20).grow(10).Checkpoint(30)), Forked, 1)
	if err := m.Remember(foreign.Checkpoint(40)); err == nil {
		t.Error("another log's checkpoint was remembered")
	}
	if err := m.Pin(foreign.Key); !errors.Is(err, ErrOtherKey) {
		t.Errorf("another key: %v", err)
	}
	if got := open(t, path); *got.Seen() != *l.seen(30) {
		t.Errorf("it became %+v", got.Seen())
	}
	// Two at once: who comes later must not undo what the other wrote, unless it is the same.
	if err := m.Remember(l.Checkpoint(45)); err != nil {
		t.Fatal(err)
	}
	if err := late.Remember(l.Checkpoint(40)); err == nil || !strings.Contains(err.Error(), "again") {
		t.Errorf("a memory was overwritten: %v", err)
	}
	if err := late.Remember(l.Checkpoint(45)); err != nil {
		t.Errorf("the same was refused: %v", err)
	}
	other := open(t, filepath.Join(t.TempDir(), "new"))
	other.path = path
	if err := errors.Join(other.Pin(foreign.Key)); err != nil {
		t.Fatal(err)
	}
	if err := other.Remember(foreign.Checkpoint(50)); !errors.Is(err, ErrOtherKey) {
		t.Errorf("the memory of another log was overwritten: %v", err)
	}
	if got := open(t, path); *got.Seen() != *l.seen(45) {
		t.Errorf("it became %+v", got.Seen())
	}
}

func TestABrokenMemoryIsNotForgotten(t *testing.T) {
	l, foreign := newLog(t), newLog(t)
	l.fill(5, time.Minute)
	foreign.fill(5, time.Minute)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"empty": "", "no JSON": "{", "no key": `{}`,
		"another's checkpoint": encoded(t, remembered{Key: l.Key, Checkpoint: string(foreign.Checkpoint(5))}),
		"a changed checkpoint": encoded(t, remembered{Key: l.Key, Checkpoint: strings.Replace(string(l.Checkpoint(5)), "\n5\n", "\n4\n", 1)}),
	} {
		path := filepath.Join(dir, "state")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := OpenMemory(path); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	for _, path := range []string{dir, os.DevNull, filepath.Join(dir, "state", "below")} {
		if m, err := OpenMemory(path); err == nil {
			t.Errorf("%s: %+v", path, m)
		}
	}
	m := open(t, filepath.Join(dir, "new"))
	if err := m.Pin("no key"); err == nil {
		t.Error("a key that is none was pinned")
	}
	m.path = filepath.Join(dir, "state", "below")
	if err := m.Save(); err == nil {
		t.Error("it was written below a file")
	}
	m.path = dir
	if err := m.Save(); err == nil {
		t.Error("it was written over a directory")
	}
}

func TestALinkStays(t *testing.T) {
	l := newLog(t)
	l.fill(5, time.Minute)
	dir := t.TempDir()
	path, link := filepath.Join(dir, "state"), filepath.Join(dir, "link")
	m := open(t, path)
	if err := errors.Join(m.Pin(l.Key), m.Save(), os.Symlink(path, link)); err != nil {
		t.Fatal(err)
	}
	if err := open(t, link).Remember(l.Checkpoint(5)); err != nil {
		t.Fatal(err)
	}
	if got := open(t, path); got.Seen() == nil || got.Seen().Size != 5 {
		t.Error("the link was replaced by a file")
	}
}
