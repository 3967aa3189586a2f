package verify

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

var (
	now  = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	orgA = uuid.MustParse("00000000-0000-4000-8000-00000000000a")
	orgB = uuid.MustParse("00000000-0000-4000-8000-00000000000b")
)

// testLog is a log made with the library alone, that exports what it is told to.
type testLog struct {
	t      testing.TB
	signer note.Signer
	log    note.Verifier
	key    string
	bodies [][]byte
	hashes hashes
}

type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		out[i] = h[index]
	}
	return out, nil
}

func newLog(t testing.TB) *testLog {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, "log.example/audit")
	if err != nil {
		t.Fatal(err)
	}
	l := &testLog{t: t, key: public}
	if l.signer, err = note.NewSigner(private); err != nil {
		t.Fatal(err)
	}
	if l.log, err = note.NewVerifier(public); err != nil {
		t.Fatal(err)
	}
	return l
}

// fork gives another log of the same key, equal in its first n events.
func (l *testLog) fork(n int) *testLog {
	f := &testLog{t: l.t, signer: l.signer, log: l.log, key: l.key}
	for _, body := range l.bodies[:n] {
		f.append(body)
	}
	return f
}

func (l *testLog) append(body []byte) {
	l.t.Helper()
	more, err := tlog.StoredHashes(int64(len(l.bodies)), body, l.hashes)
	if err != nil {
		l.t.Fatal(err)
	}
	l.hashes = append(l.hashes, more...)
	l.bodies = append(l.bodies, bytes.Clone(body))
}

// event gives the canonical bytes of an event that happened some time before now.
func event(age time.Duration, org uuid.UUID, text string) []byte {
	return audit.System("test").Event(now.Add(-age), org, audit.TokenIssued, audit.Target{Type: audit.TypeToken, ID: text}).Encode()
}

// fill appends n events, a second apart, the last of them so old.
func (l *testLog) fill(n int, last time.Duration) {
	for i := range n {
		l.append(event(last+time.Duration(n-1-i)*time.Second, [...]uuid.UUID{orgA, orgB}[i%2], fmt.Sprint(len(l.bodies)+1)))
	}
}

func (l *testLog) checkpoint(size int64) []byte {
	l.t.Helper()
	root, err := tlog.TreeHash(size, l.hashes)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.sign(transparency.Checkpoint{Origin: l.log.Name(), Size: size, Root: root})
}

func (l *testLog) sign(c transparency.Checkpoint) []byte {
	l.t.Helper()
	signed, err := note.Sign(&note.Note{Text: c.Text()}, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	return signed
}

// seen is a checkpoint that was accepted.
func (l *testLog) seen(size int64) *transparency.Checkpoint {
	l.t.Helper()
	c, err := transparency.Open(l.checkpoint(size), l.log)
	if err != nil {
		l.t.Fatal(err)
	}
	return &c
}

func (l *testLog) consistency(_ context.Context, from, to int64) (Consistency, error) {
	proof, err := tlog.ProveTree(to, from, l.hashes)
	return Consistency{From: from, To: to, Hashes: proof}, err
}

func (l *testLog) inclusion(leaf, size int64) Inclusion {
	l.t.Helper()
	proof, err := tlog.ProveRecord(size, leaf, l.hashes)
	if err != nil {
		l.t.Fatal(err)
	}
	return Inclusion{Leaf: l.bodies[leaf], LeafIndex: leaf, TreeSize: size, Hashes: proof, Checkpoint: string(l.checkpoint(size))}
}

func eventLineOf(sequence int64, hash tlog.Hash, body []byte) string {
	return fmt.Sprintf(`{"sequence":%d,"leafHash":"%s",%s`, sequence, hash, body[1:])
}

func checkpointLineOf(signed []byte) string {
	text, _ := json.Marshal(map[string]string{"checkpoint": string(signed)})
	return string(text)
}

// lines export the log with checkpoints at the sizes; hidden leaves stand in subtrees.
func (l *testLog) lines(hidden func(leaf int64) bool, sizes ...int64) []string {
	var out []string
	at := int64(0)
	if len(sizes) == 0 {
		sizes = []int64{int64(len(l.bodies))}
	}
	for _, size := range sizes {
		for at < size {
			if hidden == nil || !hidden(at) {
				out = append(out, eventLineOf(at+1, l.hashes[tlog.StoredHashIndex(0, at)], l.bodies[at]))
				at++
				continue
			}
			level := 0
			for fits := func(n int64) bool {
				if at%n != 0 || at+n > size {
					return false
				}
				for i := at; i < at+n; i++ {
					if !hidden(i) {
						return false
					}
				}
				return true
			}; fits(2 << level); {
				level++
			}
			out = append(out, fmt.Sprintf(`{"leaves":[%d,%d],"hash":"%s"}`, at, at+1<<level, l.hashes[tlog.StoredHashIndex(level, at>>level)]))
			at += 1 << level
		}
		out = append(out, checkpointLineOf(l.checkpoint(size)))
	}
	return out
}

func text(lines []string) string { return strings.Join(lines, "\n") + "\n" }

func (l *testLog) config() Config {
	return Config{Log: l.log, Now: func() time.Time { return now }}
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
