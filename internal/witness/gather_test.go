package witness_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/outbound"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/witness"
)

// gatherer asks the witnesses with a minute of patience, so that a test that passes
// waited for nobody in vain.
func gatherer(t *testing.T, quorum int, logs io.Writer, now func() time.Time, witnesses ...witness.Witness) *witness.Gatherer {
	t.Helper()
	g, err := witness.NewGatherer(witness.GatherConfig{
		Witnesses: witnesses, Quorum: quorum, Client: outbound.New(outbound.Config{Loopback: true, Timeout: time.Minute}), Timeout: time.Minute, Linger: time.Second,
		Logger: slog.New(slog.NewJSONHandler(logs, nil)), Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// fake is a witness that answers as it is told, and counts.
func fake(t *testing.T, name string, answer http.HandlerFunc) (w witness.Witness, hits *atomic.Int64) {
	t.Helper()
	hits = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	private, err := transparency.NewCosignerKey(name)
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := transparency.NewCosigner(private, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	key, err := transparency.NewCosignatureVerifier(cosigner.VerifierKey())
	if err != nil {
		t.Fatal(err)
	}
	return witness.Witness{Key: key, URL: s.URL}, hits
}

func failing(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadGateway) }

// silent answers when the client has gone.
func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestAllWitnessesSign(t *testing.T) {
	l := newLog(t, "log.example/audit", 7)
	logs := &buffer{}
	var witnesses []witness.Witness
	var keys []note.Verifier
	for i := range 3 {
		w := newWitness(t, fmt.Sprintf("w%d", i), "", time.Now, l)
		witnesses, keys = append(witnesses, w.peer()), append(keys, w.key)
	}
	g := gatherer(t, 3, logs, time.Now, witnesses...)
	for range 3 {
		for range 2 { // the second time with nothing new
			signed := l.newest()
			got, err := g.Gather(t.Context(), signed, l.prove)
			if err != nil {
				t.Fatal(err)
			}
			rest, ok := strings.CutPrefix(string(got), string(signed))
			if !ok || strings.Index(rest, "— w0 ") != 0 || strings.Index(rest, "— w1 ") > strings.Index(rest, "— w2 ") {
				t.Errorf("gathered:\n%s", got)
			}
			n, err := note.Open(got, note.VerifierList(append(keys, l.key)...))
			if err != nil || len(n.Sigs) != 4 || len(n.UnverifiedSigs) != 0 {
				t.Errorf("%+v, %v", n, err)
			}
		}
		l.grow(100, "leaf")
	}
	if logs.String() != "" {
		t.Errorf("logged: %s", logs)
	}
}

func TestAQuorumIsEnough(t *testing.T) {
	l := newLog(t, "log.example/audit", 7)
	logs := &buffer{}
	broken, _ := fake(t, "broken", failing)
	slow, _ := fake(t, "slow", silent)
	g := gatherer(t, 2, logs, newClock().now, broken, newWitness(t, "a", "", time.Now, l).peer(), slow, newWitness(t, "b", "", time.Now, l).peer())
	got, err := g.Gather(t.Context(), l.newest(), l.prove)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(got), "\n— ") != 3 {
		t.Errorf("gathered:\n%s", got)
	}
	if !strings.Contains(logs.String(), `"witness":"broken","error":"it answered 502: \"no\""`) || strings.Count(logs.String(), "\n") != 1 {
		t.Errorf("logged:\n%s", logs)
	}
}

func TestTooFewAreNamed(t *testing.T) {
	l := newLog(t, "log.example/audit", 7)
	logs := &buffer{}
	stranger := newWitness(t, "stranger", "", time.Now)
	gone, _ := fake(t, "gone", failing)
	gone.URL = "http://127.0.0.1:1"
	g := gatherer(t, 2, logs, newClock().now, newWitness(t, "a", "", time.Now, l).peer(), stranger.peer(), gone)
	got, err := g.Gather(t.Context(), l.newest(), l.prove)
	var few *witness.QuorumError
	if !errors.As(err, &few) || got != nil {
		t.Fatalf("%s, %v", got, err)
	}
	if few.Signed != 1 || few.Quorum != 2 || len(few.Refusals) != 2 || few.Refusals[0].Witness != "stranger" || few.Refusals[1].Witness != "gone" {
		t.Errorf("%+v", few)
	}
	for _, part := range []string{"1 of 3 witnesses signed, 2 must", "stranger: it answered 404", "gone: ", "refused"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	if logs.String() != "" {
		t.Errorf("returned and logged: %s", logs)
	}
}

// A log that forgot what its witnesses know is told, and asks once more.
func TestAConflictIsAskedAgain(t *testing.T) {
	l := newLog(t, "log.example/audit", 7)
	w := newWitness(t, "w", "", time.Now, l)
	for range 2 {
		if _, err := gatherer(t, 1, io.Discard, time.Now, w.peer()).Gather(t.Context(), l.newest(), l.prove); err != nil {
			t.Fatal(err)
		}
		l.grow(5, "leaf")
	}
	if n := strings.Count(w.logs.String(), `"status":409`); n != 1 {
		t.Errorf("%d conflicts:\n%s", n, w.logs)
	}
	moving, hits := fake(t, "moving", nil)
	next := atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		w.WriteHeader(http.StatusConflict)
		_, _ = fmt.Fprintf(w, "%d\n", next.Add(1))
	}))
	t.Cleanup(s.Close)
	moving.URL = s.URL
	if _, err := gatherer(t, 1, io.Discard, time.Now, moving).Gather(t.Context(), l.newest(), l.prove); err == nil || hits.Load() != 2 {
		t.Errorf("asked %d times: %v", hits.Load(), err)
	}
}

func TestAWitnessTellsOfACutAndOfAFork(t *testing.T) {
	l := newLog(t, "log.example/audit", 20)
	w := newWitness(t, "w", "", time.Now, l)
	w.cosigns(0, nil, l.newest())
	cut := l.fork(10)
	same := l.fork(10)
	same.grow(10, "forged")
	longer := l.fork(10)
	longer.grow(30, "forged")
	for _, c := range []struct {
		log  *aLog
		want error
	}{{cut, witness.ErrCut}, {same, witness.ErrForked}, {longer, witness.ErrForked}} {
		before := w.state()
		logs := &buffer{}
		g := gatherer(t, 1, logs, newClock().now, w.peer())
		if _, err := g.Gather(t.Context(), c.log.newest(), c.log.prove); !errors.Is(err, c.want) || errors.Is(err, witness.ErrResting) {
			t.Errorf("%v, want %v", err, c.want)
		}
		// While it is left alone, it still is why.
		if _, err := g.Gather(t.Context(), c.log.newest(), c.log.prove); !errors.Is(err, c.want) || !errors.Is(err, witness.ErrResting) {
			t.Errorf("the second time: %v, want %v", err, c.want)
		}
		if n := strings.Count(logs.String(), `"level":"ERROR"`); n != 1 {
			t.Errorf("it is logged %d times: %s", n, logs)
		}
		if w.state() != before {
			t.Error("the witness's state changed")
		}
	}
	// The same while others make the quorum: then it is an error of the log's.
	logs := &buffer{}
	g := gatherer(t, 1, logs, newClock().now, w.peer(), newWitness(t, "new", "", time.Now, l).peer())
	if _, err := g.Gather(t.Context(), cut.newest(), cut.prove); err != nil && !errors.Is(err, witness.ErrCut) {
		t.Fatal(err)
	}
	if !strings.Contains(logs.String(), `"level":"ERROR"`) || !strings.Contains(logs.String(), "the log was cut") {
		t.Errorf("logged: %s", logs)
	}
}

func TestWhoIsAskedForNoCheckpointSaysSo(t *testing.T) {
	l := newLog(t, "log.example/audit", 7)
	w, hits := fake(t, "w", failing)
	g := gatherer(t, 1, io.Discard, time.Now, w)
	for _, text := range []string{"", "x", l.at(7).Text(), "a\nb\n\n— w AAAA\n", strings.Repeat("x", 1<<20)} {
		if got, err := g.Gather(t.Context(), []byte(text), l.prove); err == nil {
			t.Errorf("%.20q gave %s", text, got)
		}
	}
	if hits.Load() != 0 {
		t.Error("the witness was asked")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Gather(ctx, l.newest(), l.prove); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for _, quorum := range []int{0, 2} {
		if _, err := witness.NewGatherer(witness.GatherConfig{Witnesses: []witness.Witness{w}, Quorum: quorum, Client: client()}); err == nil {
			t.Errorf("a quorum of %d of 1 is taken", quorum)
		}
	}
	w.URL = "http://w.example"
	if _, err := witness.NewGatherer(witness.GatherConfig{Witnesses: []witness.Witness{w}, Quorum: 1, Client: client()}); !errors.Is(err, outbound.ErrRefused) {
		t.Errorf("a witness without TLS: %v", err)
	}
}

// TestOf64GatherersNoneIsLied sends 64 checkpoints of one log to one witness, from 64
// nodes that do not know of each other.
func TestOf64GatherersNoneIsLied(t *testing.T) {
	l := newLog(t, "log.example/audit", 64)
	w := newWitness(t, "w", "", time.Now, l)
	var group sync.WaitGroup
	var largest atomic.Int64
	for i := range int64(64) {
		g := gatherer(t, 1, io.Discard, time.Now, w.peer())
		group.Go(func() {
			got, err := g.Gather(t.Context(), l.signed(i+1), l.prove)
			if err != nil {
				return // another was faster
			}
			if n, err := note.Open(got, note.VerifierList(w.key, l.key)); err != nil || len(n.Sigs) != 2 {
				t.Errorf("%+v, %v", n, err)
			}
			for old := largest.Load(); old < i+1 && !largest.CompareAndSwap(old, i+1); old = largest.Load() {
			}
		})
	}
	group.Wait()
	if size := fmt.Sprintf(`"size":%d,`, largest.Load()); largest.Load() == 0 || !strings.Contains(w.state(), size) {
		t.Errorf("the largest signed was %d, remembered is %s", largest.Load(), w.state())
	}
}
