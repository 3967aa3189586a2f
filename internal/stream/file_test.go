package stream_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/stream"
)

// held gives the lines of files, one after the other.
func held(t *testing.T, paths ...string) []string {
	t.Helper()
	var all []string
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if !strings.HasSuffix(line, "\n") {
				t.Errorf("%s ends within a line: %q", path, line)
			}
			all = append(all, strings.TrimSuffix(line, "\n"))
		}
	}
	return all
}

func file(t *testing.T, path string) *stream.File {
	t.Helper()
	f := stream.NewFile(path, format(t, export.NDJSON))
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func deliver(t *testing.T, s stream.Sink, batch []export.Entry) {
	t.Helper()
	if err := s.Deliver(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

func TestAFileHasALineForEachEvent(t *testing.T) {
	r, path := newRecord(7), filepath.Join(t.TempDir(), "audit.ndjson")
	s := start(t, r, stream.RunnerConfig{Sink: file(t, path), Batch: 3})
	eventually(t, "everything", func() bool { return r.at("test") == 7 })
	s.stop()
	r.grow(2)
	s = start(t, r, stream.RunnerConfig{Sink: file(t, path)}) // a new process
	eventually(t, "the rest", func() bool { return r.at("test") == 9 })
	s.stop()
	if got := held(t, path); !slices.Equal(got, lines(r.entries)) {
		t.Errorf("the file holds\n%v", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v, %v; want 0600", info.Mode(), err)
	}
}

// logrotate moves the file away, makes a new one or not, or removes it.
func TestAFileSurvivesRotation(t *testing.T) {
	folder := t.TempDir()
	path, old := filepath.Join(folder, "audit.ndjson"), filepath.Join(folder, "audit.ndjson.1")
	r, f := newRecord(8), file(t, path)
	deliver(t, f, r.entries[:2])
	if err := os.Rename(path, old); err != nil {
		t.Fatal(err)
	}
	deliver(t, f, r.entries[2:4])
	if got := held(t, old, path); !slices.Equal(got, lines(r.entries[:4])) {
		t.Errorf("moved away: %v", got)
	}
	if err := errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o640)); err != nil {
		t.Fatal(err)
	}
	deliver(t, f, r.entries[4:6])
	if got := held(t, path); !slices.Equal(got, lines(r.entries[4:6])) {
		t.Errorf("replaced: %v", got)
	}
	if err := os.Truncate(path, 0); err != nil { // copytruncate
		t.Fatal(err)
	}
	deliver(t, f, r.entries[6:7])
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	deliver(t, f, r.entries[7:])
	if got := held(t, path); !slices.Equal(got, lines(r.entries[7:])) {
		t.Errorf("removed: %v", got)
	}
}

// A crash within a line leaves half of it; what follows begins a line of its own.
func TestHalfALineSpoilsNoOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.ndjson")
	r, f := newRecord(3), file(t, path)
	half := lines(r.entries[:1])[0][:40]
	if err := os.WriteFile(path, []byte(half), 0o600); err != nil {
		t.Fatal(err)
	}
	deliver(t, f, r.entries[:2])
	if got, want := held(t, path), append([]string{half}, lines(r.entries[:2])...); !slices.Equal(got, want) {
		t.Errorf("the file holds %q, want %q", got, want)
	}
	out, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0) // another writer, cut off
	if err != nil {
		t.Fatal(err)
	}
	_, err = out.WriteString(half)
	if err = errors.Join(err, out.Close()); err != nil {
		t.Fatal(err)
	}
	deliver(t, f, r.entries[2:])
	if got := held(t, path); got[len(got)-1] != lines(r.entries[2:])[0] || got[len(got)-2] != half {
		t.Errorf("the file holds %q", got)
	}
}

func TestAFullDiskIsAFailure(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full")
	}
	f := file(t, "/dev/full")
	for range 2 {
		if err := f.Deliver(t.Context(), newRecord(2).entries); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "/dev/full") {
			t.Errorf("Deliver = %v, want that the disk is full", err)
		}
	}
}

// The disk is full for a while: the runner waits, and then nothing is missing.
func TestADiskThatWasFullLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.ndjson")
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Skip(err)
	}
	r := newRecord(5)
	s := start(t, r, stream.RunnerConfig{Sink: file(t, path)})
	eventually(t, "the failure", func() bool { return errors.Is(s.Status().Err, syscall.ENOSPC) })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "everything", func() bool { return r.at("test") == 5 })
	s.stop()
	if got := held(t, path); !slices.Equal(got, lines(r.entries)) {
		t.Errorf("the file holds %v", got)
	}
}

func TestAFileThatCannotBeOpenedIsAFailure(t *testing.T) {
	folder := t.TempDir()
	r := newRecord(1)
	for _, path := range []string{folder, filepath.Join(folder, "missing", "file"), filepath.Join(folder, "with\x00nul")} {
		if err := file(t, path).Deliver(t.Context(), r.entries); err == nil {
			t.Errorf("%q took an event", path)
		}
	}
	if os.Getuid() == 0 {
		return // everything may be written
	}
	if err := os.Chmod(folder, 0o500); err != nil {
		t.Fatal(err)
	}
	if err := file(t, filepath.Join(folder, "file")).Deliver(t.Context(), r.entries); !errors.Is(err, os.ErrPermission) {
		t.Errorf("Deliver = %v, want that it is not permitted", err)
	}
}

func TestWhatIsNoEventStopsAStream(t *testing.T) {
	bad := []export.Entry{newRecord(1).entries[0], {Sequence: 2, Body: []byte("{}")}}
	path := filepath.Join(t.TempDir(), "audit.ndjson")
	if err := file(t, path).Deliver(t.Context(), bad); !errors.Is(err, export.ErrBody) || !strings.Contains(err.Error(), "event 2") {
		t.Errorf("Deliver = %v, want ErrBody with the event", err)
	}
	if got := held(t, path); len(got) != 0 {
		t.Errorf("half a batch was written: %v", got)
	}
}
