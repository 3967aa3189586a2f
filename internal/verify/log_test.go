package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/verify/verifytest"
)

var (
	now  = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	orgA = uuid.MustParse("00000000-0000-4000-8000-00000000000a")
	orgB = uuid.MustParse("00000000-0000-4000-8000-00000000000b")
)

// testLog is a log of this package's tests.
type testLog struct {
	*verifytest.Log
	t testing.TB
}

func newLog(t testing.TB) *testLog {
	t.Helper()
	return &testLog{verifytest.New(t, "log.example/audit"), t}
}

func (l *testLog) fork(n int) *testLog { return &testLog{l.Fork(n), l.t} }

// event gives the canonical bytes of an event that happened some time before now.
func event(age time.Duration, org uuid.UUID, text string) []byte {
	return audit.System("test").Event(now.Add(-age), org, audit.TokenIssued, audit.Target{Type: audit.TypeToken, ID: text}).Encode()
}

// fill appends n events, a second apart, the last of them so old.
func (l *testLog) fill(n int, last time.Duration) {
	for i := range n {
		l.Append(event(last+time.Duration(n-1-i)*time.Second, [...]uuid.UUID{orgA, orgB}[i%2], fmt.Sprint(len(l.Bodies)+1)))
	}
}

// seen is a checkpoint that was accepted.
func (l *testLog) seen(size int64) *transparency.Checkpoint {
	l.t.Helper()
	c := l.Tree(size)
	return &c
}

func (l *testLog) consistency(_ context.Context, from, to int64) (Consistency, error) {
	proof, err := l.Consistency(from, to)
	return Consistency{From: from, To: to, Hashes: proof}, err
}

func (l *testLog) inclusion(leaf, size int64) Inclusion {
	l.t.Helper()
	proof, err := l.Inclusion(leaf, size)
	if err != nil {
		l.t.Fatal(err)
	}
	return Inclusion{Leaf: l.Bodies[leaf], LeafIndex: leaf, TreeSize: size, Hashes: proof, Checkpoint: string(l.Checkpoint(size))}
}

func text(lines []string) string { return strings.Join(lines, "\n") + "\n" }

func (l *testLog) config() Config {
	return Config{Log: l.Verifier, Now: func() time.Time { return now }}
}

func (l *testLog) verify(export string, change ...func(*Config)) (Summary, error) {
	cfg := l.config()
	for _, c := range change {
		c(&cfg)
	}
	// The reader gives little at a time, so that lines are put together from pieces.
	return Export(context.Background(), iotestReader{strings.NewReader(export)}, cfg)
}

type iotestReader struct{ r io.Reader }

func (r iotestReader) Read(p []byte) (int, error) { return r.r.Read(p[:min(len(p), 1000)]) }

func all(c *Config) { c.All = true }

func remember(c *transparency.Checkpoint) func(*Config) { return func(cfg *Config) { cfg.Seen = c } }

// wrong checks the failure that must have come out.
func wrong(t *testing.T, err error, kind Kind, sequence int64) *Failure {
	t.Helper()
	var f *Failure
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want a failure of kind %q", err, kind)
	}
	if f.Kind != kind || f.Sequence != sequence || !strings.Contains(f.Error(), string(kind)) {
		t.Fatalf("got %q at %d (%v), want %q at %d", f.Kind, f.Sequence, f, kind, sequence)
	}
	return f
}

func id(body []byte) string { return string(body[len(`{"v":1,"id":"`):][:36]) }
