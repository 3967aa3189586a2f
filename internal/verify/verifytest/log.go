package verifytest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// Log is a log in memory.
type Log struct {
	// Key is the verifier key, Verifier what it verifies with.
	Key      string
	Verifier note.Verifier
	// Bodies are the canonical bytes by leaf index.
	Bodies [][]byte

	t      testing.TB
	signer note.Signer
	hashes hashes
}

type hashes []tlog.Hash

// ReadHashes gives stored hashes to the library.
func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		out[i] = h[index]
	}
	return out, nil
}

// New makes an empty log with a key of its own.
func New(t testing.TB, origin string) *Log {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	return WithKey(t, private, public)
}

// WithKey makes an empty log with the key, in C2SP's form of signer and verifier keys.
func WithKey(t testing.TB, private, public string) *Log {
	t.Helper()
	signer, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	return &Log{Key: public, Verifier: verifier, t: t, signer: signer}
}

// Fork gives another log of the same key, equal in its first n events.
func (l *Log) Fork(n int) *Log {
	f := &Log{Key: l.Key, Verifier: l.Verifier, t: l.t, signer: l.signer}
	for _, body := range l.Bodies[:n] {
		f.Append(body)
	}
	return f
}

// Append adds a leaf.
func (l *Log) Append(body []byte) {
	l.t.Helper()
	more, err := tlog.StoredHashes(l.Size(), body, l.hashes)
	if err != nil {
		l.t.Fatal(err)
	}
	l.hashes = append(l.hashes, more...)
	l.Bodies = append(l.Bodies, bytes.Clone(body))
}

// Size is the number of leaves.
func (l *Log) Size() int64 { return int64(len(l.Bodies)) }

// LeafHash gives the hash of a leaf.
func (l *Log) LeafHash(leaf int64) tlog.Hash { return l.hashes[tlog.StoredHashIndex(0, leaf)] }

// Tree gives what the tree of the size is, unsigned.
func (l *Log) Tree(size int64) transparency.Checkpoint {
	l.t.Helper()
	root, err := tlog.TreeHash(size, l.hashes)
	if err != nil {
		l.t.Fatal(err)
	}
	return transparency.Checkpoint{Origin: l.Verifier.Name(), Size: size, Root: root}
}

// Checkpoint gives the signed note of the tree of the size.
func (l *Log) Checkpoint(size int64) []byte { return l.Sign(l.Tree(size)) }

// Sign signs whatever it is given.
func (l *Log) Sign(c transparency.Checkpoint) []byte {
	l.t.Helper()
	signed, err := note.Sign(&note.Note{Text: c.Text()}, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	return signed
}

// Consistency proves that the tree of to leaves contains that of from leaves.
func (l *Log) Consistency(from, to int64) (tlog.TreeProof, error) {
	return tlog.ProveTree(to, from, l.hashes)
}

// Inclusion proves that the leaf is in the tree of the size.
func (l *Log) Inclusion(leaf, size int64) (tlog.RecordProof, error) {
	return tlog.ProveRecord(size, leaf, l.hashes)
}

// Lines are the lines of an export with checkpoints at the sizes, or at the end where
// none is given. Leaves that are hidden stand in subtrees.
func (l *Log) Lines(hidden func(leaf int64) bool, sizes ...int64) []string {
	l.t.Helper()
	if len(sizes) == 0 {
		sizes = []int64{l.Size()}
	}
	var out []string
	at := int64(0)
	for _, size := range sizes {
		for at < size {
			if hidden == nil || !hidden(at) {
				out = append(out, EventLine(at+1, l.LeafHash(at), l.Bodies[at]))
				at++
				continue
			}
			level := l.largest(hidden, at, size)
			out = append(out, SubtreeLine(at, at+1<<level, l.hashes[tlog.StoredHashIndex(level, at>>level)]))
			at += 1 << level
		}
		out = append(out, CheckpointLine(l.Checkpoint(size)))
	}
	return out
}

// largest gives the level of the largest subtree from at on that is hidden.
func (l *Log) largest(hidden func(leaf int64) bool, at, size int64) (level int) {
	for {
		n := int64(2) << level
		if at%n != 0 || at+n > size {
			return level
		}
		for i := at; i < at+n; i++ {
			if !hidden(i) {
				return level
			}
		}
		level++
	}
}

// EventLine is an export's line of an event.
func EventLine(sequence int64, hash tlog.Hash, body []byte) string {
	return fmt.Sprintf(`{"sequence":%d,"leafHash":"%s",%s`, sequence, hash, body[1:])
}

// SubtreeLine is an export's line of leaves that are not shown.
func SubtreeLine(from, to int64, hash tlog.Hash) string {
	return fmt.Sprintf(`{"leaves":[%d,%d],"hash":"%s"}`, from, to, hash)
}

// CheckpointLine is an export's line of a signed checkpoint.
func CheckpointLine(signed []byte) string {
	text, _ := json.Marshal(string(signed)) // a text always can
	return `{"checkpoint":` + string(text) + `}`
}
