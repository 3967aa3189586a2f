package verify

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/verify/verifytest"
)

// FuzzExport changes an export in every way: no line may bring the reader down, and
// whatever is accepted is a tree that the log signed, with the events as they were.
func FuzzExport(f *testing.F) {
	l := vectorLog(f)
	// Fixed, as the fuzzing processes must have the same log.
	drop := dropEvent(vectorTime, orgA, vectorTime.Add(-90*day), 90, 1, 2, 2, "2")
	drop.ID, drop.Salt = fixedID(drop.Time, 4), strings.Repeat("04", 16)
	l.Append(drop.Encode())
	var trees []transparency.Checkpoint // by size
	for size := range l.Size() + 1 {
		trees = append(trees, l.Tree(size))
	}
	genuine := map[string]bool{}
	for i, body := range l.Bodies {
		genuine[verifytest.EventLine(int64(i+1), l.LeafHash(int64(i)), body)] = true
	}
	f.Add(text(l.Lines(nil, 1, 3, 4)))
	f.Add(text(l.Lines(func(i int64) bool { return i == 1 }, 2, 4)))
	f.Add(text(l.Lines(func(i int64) bool { return i < 2 })))
	f.Add(text(slices.Delete(l.Lines(nil), 1, 2)))
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
		if sum.Last.Size >= int64(len(trees)) || sum.Last != trees[sum.Last.Size] || sum.Leaves() != sum.Last.Size {
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
	for _, line := range l.Lines(func(i int64) bool { return i < 2 }) {
		f.Add([]byte(line))
	}
	f.Add(l.Bodies[0])
	f.Fuzz(func(t *testing.T, line []byte) {
		given := slices.Clone(line)
		if e, err := readEvent(slices.Clone(line)); err == nil {
			h, err := readHead(e.body())
			if err == nil && h.version == 1 && (len(h.id) != 36 || !strings.HasPrefix(string(e.body()), `{"v":1,"id":"`+string(h.id)+`"`) || !bytes.HasSuffix(given, e.body()[1:])) {
				t.Errorf("%q was read as the event %q", given, e.body())
			}
			_, _ = readDrop(e.body())
		}
		if s, err := readSubtree(line); err == nil && (s.to-s.from != 1<<s.level || s.from%(1<<s.level) != 0 || verifytest.SubtreeLine(s.from, s.to, s.hash) != string(given)) {
			t.Errorf("%q was read as %+v", given, s)
		}
		_, _ = readCheckpoint(line)
	})
}
