package verify

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/verify/verifytest"
)

// export runs a verification that must succeed.
func export(tb testing.TB, l *testLog, r io.Reader) Summary {
	tb.Helper()
	cfg := l.config()
	cfg.All = true
	sum, err := Export(tb.Context(), r, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return sum
}

// Ten times the events must not need more: what grows with them is counted, and is next
// to nothing.
func TestMemoryDoesNotGrowWithTheEvents(t *testing.T) {
	allocations := func(events int) float64 {
		l := newLog(t)
		l.fill(events, time.Minute)
		lines := text(l.Lines(nil))
		return testing.AllocsPerRun(5, func() { export(t, l, strings.NewReader(lines)) })
	}
	few, many := allocations(1000), allocations(10000)
	if perEvent := (many - few) / 9000; perEvent > 0.01 {
		t.Errorf("%.3f allocations per event: %.0f for 1,000 events, %.0f for 10,000", perEvent, few, many)
	}
}

// Gaps cost a bit for each leaf, however they lie, and nothing once they are explained.
func TestGapsCostABitForEachLeaf(t *testing.T) {
	var g gaps
	const leaves = 1 << 20
	for i := int64(0); i < leaves; i += 2 {
		g.add(i, i+1)
	}
	if len(g.spans) != 0 || len(g.pages) != leaves/pageSize {
		t.Errorf("%d spans and %d pages for %d leaves", len(g.spans), len(g.pages), leaves)
	}
	for i := int64(0); i < leaves; i += 2 {
		g.explain(i, i+1)
	}
	if len(g.pages) != 0 {
		t.Errorf("%d pages are left", len(g.pages))
	}
	g.add(leaves, 2*leaves)
	for i := int64(leaves); i < 2*leaves; i += 2 {
		g.explain(i, i+1)
	}
	if len(g.spans) != 0 || len(g.pages) != leaves/pageSize {
		t.Errorf("%d spans and %d pages for every other leaf", len(g.spans), len(g.pages))
	}
	var a ages
	for i := range int64(leaves) {
		a.add(i, i*1000) // one a second, for twelve days
	}
	if want := leaves / 600; len(a.marks) > want {
		t.Errorf("%d marks, want at most %d", len(a.marks), want)
	}
}

// BenchmarkExport gives events/s on one core; -benchtime=10000000x is ten million events.
func BenchmarkExport(b *testing.B) {
	l := newLog(b)
	body := event(time.Minute, orgA, strings.Repeat("x", 100))
	hash := tlog.RecordHash(body)
	var grown tree
	for range b.N {
		grown.add(0, hash)
	}
	c := l.seen(0)
	c.Size, c.Root = int64(b.N), grown.root()
	stream := &stream{rest: strings.TrimPrefix(verifytest.EventLine(0, hash, body), eventStart+"0") + "\n", left: int64(b.N), end: verifytest.CheckpointLine(l.Sign(*c)) + "\n"}
	b.SetBytes(int64(len(verifytest.EventLine(1000000, hash, body)) + 1))
	b.ReportAllocs()
	b.ResetTimer()
	sum := export(b, l, stream)
	if sum.Events != int64(b.N) {
		b.Fatalf("%+v", sum)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// stream makes an export's lines as they are read.
type stream struct {
	rest     string // of each line, after the sequence
	sequence int64
	left     int64
	end      string
	made     []byte
	buffer   []byte // what of it was not read yet
}

func (s *stream) Read(p []byte) (int, error) {
	if len(s.buffer) == 0 {
		s.made = s.made[:0]
		for range min(s.left, 100) {
			s.sequence++
			s.made = append(strconv.AppendInt(append(s.made, eventStart...), s.sequence, 10), s.rest...)
		}
		s.left -= min(s.left, 100)
		if s.left == 0 {
			s.made = append(s.made, s.end...)
			s.end = ""
		}
		if s.buffer = s.made; len(s.buffer) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, s.buffer)
	s.buffer = s.buffer[n:]
	return n, nil
}
