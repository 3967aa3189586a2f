package witness_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/outbound"
	"git.sentryagent.ai/sentryagent-idp/internal/witness"
)

func newStore(t *testing.T) *witness.Store {
	t.Helper()
	store, err := witness.CreateStore(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func watcher(t *testing.T, store *witness.Store, logs io.Writer, l *aLog, urls ...string) *witness.Watcher {
	t.Helper()
	w, err := witness.NewWatcher(witness.WatchConfig{Logs: []note.Verifier{l.key}, URLs: urls, Client: client(), Store: store, Logger: slog.New(slog.NewJSONHandler(logs, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func looks(t *testing.T, w *witness.Watcher) {
	t.Helper()
	if err := w.Look(t.Context()); err != nil {
		t.Error(err)
	}
}

func screams(t *testing.T, w *witness.Watcher, want error, parts ...string) {
	t.Helper()
	err := w.Look(t.Context())
	if !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
}

func TestALogThatGrowsIsWatchedInPeace(t *testing.T) {
	l := newLog(t, "log.example/audit", 0)
	logs := &buffer{}
	w := watcher(t, newStore(t), logs, l, l.serve()+"/")
	for _, more := range []int{0, 0, 1, 6, 0, 500} {
		l.grow(more, "leaf")
		looks(t, w)
	}
	if strings.Contains(logs.String(), `"level":"ERROR"`) || !strings.Contains(logs.String(), `"size":507`) {
		t.Errorf("logged:\n%s", logs)
	}
}

// Both checkpoints are in the log, and it goes on screaming.
func TestALogThatWasCutOrForkedIsSeen(t *testing.T) {
	l := newLog(t, "log.example/audit", 20)
	url := l.serve()
	path := filepath.Join(t.TempDir(), "state")
	store, err := witness.CreateStore(path)
	if err != nil {
		t.Fatal(err)
	}
	looks(t, watcher(t, store, io.Discard, l, url))
	if err := store.Close(); err != nil { // it remembers
		t.Fatal(err)
	}
	if store, err = witness.OpenStore(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	logs := &buffer{}
	w := watcher(t, store, logs, l, url)
	same, longer := l.fork(10), l.fork(10)
	same.grow(10, "forged")
	longer.grow(30, "forged")
	original := l.fork(20)
	for _, c := range []struct {
		log  *aLog
		want error
	}{{l.fork(19), witness.ErrCut}, {l.fork(0), witness.ErrCut}, {same, witness.ErrForked}, {longer, witness.ErrForked}} {
		l.mu.Lock()
		l.hashes, l.size = c.log.hashes, c.log.size
		l.mu.Unlock()
		for range 2 {
			screams(t, w, c.want, "log.example/audit: the log was ")
		}
	}
	if strings.Count(logs.String(), `"level":"ERROR"`) != 8 || !strings.Contains(logs.String(), `"known":"log.example/audit\n20\n`) || !strings.Contains(logs.String(), `"shown":"log.example/audit\n40\n`) {
		t.Errorf("logged:\n%s", logs)
	}
	original.grow(5, "leaf")
	l.mu.Lock()
	l.hashes, l.size = original.hashes, original.size
	l.mu.Unlock()
	looks(t, w)
}

// One log shown to the one and another to the other: who watches both sees it.
func TestTwoServersOfOneLogAreCompared(t *testing.T) {
	l := newLog(t, "log.example/audit", 20)
	fork := l.fork(10)
	fork.grow(40, "forged")
	screams(t, watcher(t, newStore(t), io.Discard, l, l.serve(), fork.serve()), witness.ErrForked)
	behind := l.fork(15)
	behindURL := behind.serve()
	w := watcher(t, newStore(t), io.Discard, l, l.serve(), behindURL)
	looks(t, w) // one node may lag
	behind.grow(2, "forged")
	looks(t, w) // and cannot be judged until it has what the other had
	behind.grow(10, "forged")
	screams(t, w, witness.ErrForked, behindURL)
}

// What was cosigned is compared with what is published, which may lie behind.
func TestWhatWasCosignedIsWatchedToo(t *testing.T) {
	l := newLog(t, "log.example/audit", 20)
	wit := newWitness(t, "w", "", time.Now, l)
	wit.cosigns(0, nil, l.signed(20))
	fork := l.fork(18)
	fork.grow(2, "forged")
	fork.public = string(fork.signed(15))
	w := watcher(t, wit.store, io.Discard, l, fork.serve())
	looks(t, w)
	fork.public = "" // which grew well out of all that was published
	screams(t, w, witness.ErrForked)
	fork.grow(1, "forged")
	screams(t, w, witness.ErrForked)
}

// What cannot be read is no contradiction, and is not remembered.
func TestALogThatCannotBeReadIsNotForked(t *testing.T) {
	l := newLog(t, "log.example/audit", 20)
	stranger := newLog(t, "other.example/audit", 20)
	impostor := newLog(t, "log.example/audit", 20)
	checkpoint, proof := string(l.signed(5)), ""
	mux := http.NewServeMux()
	mux.HandleFunc("/audit/checkpoint", func(w http.ResponseWriter, _ *http.Request) {
		if checkpoint == "" {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, checkpoint)
	})
	mux.HandleFunc("/audit/consistency", func(w http.ResponseWriter, _ *http.Request) {
		if proof == "" {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, proof)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	logs := &buffer{}
	w := watcher(t, newStore(t), logs, l, s.URL)
	looks(t, w)
	for _, c := range []struct{ checkpoint, proof, says string }{
		{"", "", "answered 503"},
		{"<html>", "", "whose key was not given"},
		{string(stranger.signed(6)), "", "whose key was not given"},
		{string(impostor.signed(6)), "", "opening a checkpoint"},
		{string(l.sign("log.example/audit\n9223372036854775807\n" + l.at(1).Root.String() + "\n")), "", "out of bounds"},
		{string(l.signed(6)), "", "answered 503"},
		{string(l.signed(6)), "{", "cannot be read"},
		{string(l.signed(6)), `{"from":5,"to":6,"hashes":["x"]}`, "cannot be read"},
		{string(l.signed(6)), `{"from":4,"to":6,"hashes":[]}`, "from 4 to 6, asked was from 5 to 6"},
	} {
		checkpoint, proof = c.checkpoint, c.proof
		err := w.Look(t.Context())
		if err == nil || errors.Is(err, witness.ErrForked) || errors.Is(err, witness.ErrCut) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.30q, %q: %v, want %q", c.checkpoint, c.proof, err, c.says)
		}
	}
	checkpoint, proof = string(l.signed(6)), `{"from":5,"to":6,"hashes":[]}`
	screams(t, w, witness.ErrForked)
	if strings.Count(logs.String(), `"level":"WARN"`) != 9 {
		t.Errorf("logged:\n%s", logs)
	}
}

func TestAWatcherIsToldWhatItCannotWatch(t *testing.T) {
	l := newLog(t, "log.example/audit", 1)
	for _, url := range []string{"x", "http://log.example", "https://10.0.0.1", "ftp://x", "https://u@x"} {
		if _, err := witness.NewWatcher(witness.WatchConfig{URLs: []string{url}, Client: client()}); err == nil {
			t.Errorf("%s is taken", url)
		}
	}
	if _, err := witness.NewWatcher(witness.WatchConfig{URLs: []string{"http://log.example"}, Client: client()}); !errors.Is(err, outbound.ErrRefused) {
		t.Error(err)
	}
	if _, err := witness.NewWatcher(witness.WatchConfig{Logs: []note.Verifier{l.key, l.key}}); err == nil {
		t.Error("two keys of one origin are taken")
	}
}

func TestAWatcherRunsUntilItIsStopped(t *testing.T) {
	l := newLog(t, "log.example/audit", 1)
	seen := make(chan struct{}, 100)
	inner := l.serve()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.Get(inner + r.URL.String())
		if err != nil {
			return
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(w, resp.Body)
		seen <- struct{}{}
	}))
	t.Cleanup(s.Close)
	w := watcher(t, newStore(t), io.Discard, l, s.URL)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx, time.Millisecond)
	}()
	for range 3 {
		<-seen
	}
	cancel()
	<-done
	if err := w.Look(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
