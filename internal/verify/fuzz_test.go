package verify

import (
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// FuzzExport changes an export in every way: no line may bring the reader down, and
// whatever is accepted is a tree that the log signed, with the events as they were.
func FuzzExport(f *testing.F) {
	l := vectorLog(f)
	l.append(dropOf(vectorTime, orgA, vectorTime.Add(-90*day), 90, 1, 2, 2, "2"))
	genuine := map[string]bool{}
	for i, body := range l.bodies {
		genuine[eventLineOf(int64(i+1), l.hashes[tlog.StoredHashIndex(0, int64(i))], body)] = true
	}
	f.Add(text(l.lines(nil, 1, 3, 4)))
	f.Add(text(l.lines(func(i int64) bool { return i == 1 }, 2, 4)))
	f.Add(text(l.lines(func(i int64) bool { return i < 2 })))
	f.Add(text(slices.Delete(l.lines(nil), 1, 2)))
	for _, line := range []string{"\n", `{"sequence":1,"leafHash":"`, `{"leaves":[0,1],"hash":"`, `{"checkpoint":"\u2014`, `{"sequence":18446744073709551617,`} {
		f.Add(line)
		f.Add(line + "\n")
	}
	f.Fuzz(func(t *testing.T, export string) {
		cfg := l.config()
		cfg.All = true
		cfg.Now = func() time.Time { return vectorTime }
		sum, err := Export(t.Context(), strings.NewReader(export), cfg)
		if err != nil {
			return
		}
		if root, err := tlog.TreeHash(sum.Last.Size, l.hashes); sum.Last.Size > int64(len(l.bodies)) || err != nil || root != sum.Last.Root || sum.Leaves() != sum.Last.Size {
			t.Errorf("a tree was accepted that was never signed: %+v", sum)
		}
		for line := range strings.Lines(export) {
			if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, eventStart) && !genuine[line] {
				t.Errorf("an event was accepted that is none of the log's: %s", line)
			}
		}
	})
}

// FuzzLine reads one line of each kind.
func FuzzLine(f *testing.F) {
	l := vectorLog(f)
	for _, line := range l.lines(func(i int64) bool { return i < 2 }) {
		f.Add([]byte(line))
	}
	f.Add(l.bodies[0])
	f.Fuzz(func(t *testing.T, line []byte) {
		given := slices.Clone(line)
		if e, err := readEvent(slices.Clone(line)); err == nil {
			h, err := readHead(e.body())
			if err == nil && h.version == 1 && (len(h.id) != 36 || !strings.HasPrefix(string(e.body()), `{"v":1,"id":"`+string(h.id)+`"`) || !strings.HasSuffix(string(given), string(e.body()[1:]))) {
				t.Errorf("%q was read as the event %q", given, e.body())
			}
			_, _ = readDrop(e.body())
		}
		if s, err := readSubtree(line); err == nil && (s.to-s.from != 1<<s.level || s.from%(1<<s.level) != 0 || subtreeOf(s.from, s.to, s.hash) != string(given)) {
			t.Errorf("%q was read as %+v", given, s)
		}
		_, _ = readCheckpoint(line)
	})
}
