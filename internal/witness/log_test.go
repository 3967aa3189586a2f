package witness_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/outbound"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// aLog is a log in memory, with its key.
type aLog struct {
	t      *testing.T
	signer note.Signer
	key    note.Verifier
	vkey   string

	mu     sync.Mutex
	hashes []tlog.Hash
	size   int64
	public string // what /audit/checkpoint gives; the newest where it is empty
}

func newLog(t *testing.T, origin string, leaves int) *aLog {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	l := &aLog{t: t, signer: signer, key: key, vkey: vkey}
	l.grow(leaves, "leaf")
	return l
}

// fork is the log as it was at a size, with its key.
func (l *aLog) fork(size int64) *aLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &aLog{t: l.t, signer: l.signer, key: l.key, vkey: l.vkey, size: size, hashes: append([]tlog.Hash{}, l.hashes[:tlog.StoredHashCount(size)]...)}
}

func (l *aLog) grow(leaves int, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range leaves {
		hashes, err := tlog.StoredHashes(l.size, fmt.Appendf(nil, "%s %d", text, l.size), tlog.HashReaderFunc(l.read))
		if err != nil {
			l.t.Fatal(err)
		}
		l.hashes = append(l.hashes, hashes...)
		l.size++
	}
}

func (l *aLog) read(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(l.hashes)) {
			return nil, errors.New("the log has no such hash")
		}
		hashes[i] = l.hashes[index]
	}
	return hashes, nil
}

func (l *aLog) at(size int64) transparency.Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	root, err := tlog.TreeHash(size, tlog.HashReaderFunc(l.read))
	if err != nil {
		l.t.Fatal(err)
	}
	return transparency.Checkpoint{Origin: l.key.Name(), Size: size, Root: root}
}

func (l *aLog) sign(text string) []byte {
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	return signed
}

func (l *aLog) signed(size int64) []byte { return l.sign(l.at(size).Text()) }

func (l *aLog) newest() []byte { return l.signed(l.size) }

func (l *aLog) prove(_ context.Context, from, to int64) (tlog.TreeProof, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return tlog.ProveTree(to, from, tlog.HashReaderFunc(l.read))
}

func (l *aLog) proof(from, to int64) tlog.TreeProof {
	p, err := l.prove(l.t.Context(), from, to)
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// serve serves the log as the product does.
func (l *aLog) serve() string {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /audit/checkpoint", func(w http.ResponseWriter, _ *http.Request) {
		l.mu.Lock()
		text := l.public
		l.mu.Unlock()
		if text == "" {
			text = string(l.newest())
		}
		_, _ = w.Write([]byte(text))
	})
	mux.HandleFunc("GET /audit/consistency", func(w http.ResponseWriter, r *http.Request) {
		from, errFrom := strconv.ParseInt(r.FormValue("from"), 10, 64)
		to, errTo := strconv.ParseInt(r.FormValue("to"), 10, 64)
		proof, err := l.prove(r.Context(), from, to)
		if err = errors.Join(errFrom, errTo, err); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"from": from, "to": to, "hashes": proof})
	})
	s := httptest.NewServer(mux)
	l.t.Cleanup(s.Close)
	return s.URL
}

// clock is a time that tests set.
type clock struct {
	mu   sync.Mutex
	time time.Time
}

func newClock() *clock { return &clock{time: time.Unix(1_800_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = c.time.Add(d)
}

func client() *outbound.Client { return outbound.New(outbound.Config{Loopback: true}) }
