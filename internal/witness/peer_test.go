package witness_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/witness"
)

func TestAFailingWitnessIsLeftAloneForAWhile(t *testing.T) {
	l := newLog(t, "log.example/audit", 7)
	c := newClock()
	broken := atomic.Bool{}
	broken.Store(true)
	behind := newWitness(t, "w", "", time.Now, l)
	front, hits := fake(t, "front", nil)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		if broken.Load() {
			failing(w, r)
			return
		}
		resp, err := http.Post(behind.url+r.URL.Path, "text/plain", r.Body)
		if err != nil {
			failing(w, r)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(s.Close)
	front.URL, front.Key = s.URL, behind.key
	g := gatherer(t, 1, io.Discard, c.now, front)
	for i, rest := range []int{1, 2, 4, 8, 16, 30, 30, 30} {
		_, err := g.Gather(t.Context(), l.newest(), l.prove)
		if err == nil || errors.Is(err, witness.ErrResting) || hits.Load() != int64(i+1) {
			t.Fatalf("failure %d: asked %d times: %v", i, hits.Load(), err)
		}
		c.add(time.Duration(rest)*time.Second - 1)
		if _, err := g.Gather(t.Context(), l.newest(), l.prove); !errors.Is(err, witness.ErrResting) || hits.Load() != int64(i+1) {
			t.Fatalf("rest %d: asked %d times: %v", i, hits.Load(), err)
		}
		c.add(1)
	}
	broken.Store(false)
	for range 2 {
		if _, err := g.Gather(t.Context(), l.newest(), l.prove); err != nil {
			t.Error(err)
		}
	}
	// A failure after success is the first again.
	broken.Store(true)
	if _, err := g.Gather(t.Context(), l.newest(), l.prove); err == nil {
		t.Error("it signed though broken")
	}
	c.add(time.Second)
	broken.Store(false)
	if _, err := g.Gather(t.Context(), l.newest(), l.prove); err != nil {
		t.Error(err)
	}
}

func TestAWitnessThatNeverAnswersIsLeftAfterTheTimeOut(t *testing.T) {
	l := newLog(t, "log.example/audit", 7)
	w, hits := fake(t, "w", silent)
	g, err := witness.NewGatherer(witness.GatherConfig{
		Witnesses: []witness.Witness{w}, Quorum: 1, Client: client(), Timeout: time.Second, Logger: slog.New(slog.DiscardHandler), Now: newClock().now,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []error{context.DeadlineExceeded, witness.ErrResting} {
		if _, err := g.Gather(t.Context(), l.newest(), l.prove); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if hits.Load() != 1 {
		t.Errorf("asked %d times", hits.Load())
	}
}

// What the log itself cannot prove is not held against the witness.
func TestALogThatCannotProveIsNoFailureOfTheWitness(t *testing.T) {
	l := newLog(t, "log.example/audit", 7)
	w := newWitness(t, "w", "", time.Now, l)
	g := gatherer(t, 1, io.Discard, newClock().now, w.peer())
	if _, err := g.Gather(t.Context(), l.newest(), l.prove); err != nil {
		t.Fatal(err)
	}
	l.grow(1, "leaf")
	broken := errors.New("the database is away")
	cannot := func(context.Context, int64, int64) (tlog.TreeProof, error) { return nil, broken }
	if _, err := g.Gather(t.Context(), l.newest(), cannot); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := g.Gather(t.Context(), l.newest(), l.prove); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoCosignatureIsNotTaken(t *testing.T) {
	l := newLog(t, "log.example/audit", 7)
	signed := l.newest()
	text := l.at(7).Text()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plainKey, err := note.NewEd25519VerifierKey("w", public)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := note.NewVerifier(plainKey)
	if err != nil {
		t.Fatal(err)
	}
	line := func(hash uint32, sig []byte) string {
		return "— w " + base64.StdEncoding.EncodeToString(append(binary.BigEndian.AppendUint32(nil, hash), sig...)) + "\n"
	}
	var answer atomic.Value
	w, _ := fake(t, "w", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer.Load().(string)) })
	other := newWitness(t, "w", "", time.Now, l)
	_, _, foreign := other.post(bodyOf(0, nil, signed))
	for name, text := range map[string]string{
		"nothing":                       "",
		"a page":                        "<html></html>\n",
		"one of another key":            foreign,
		"a plain Ed25519 signature":     line(plain.KeyHash(), ed25519.Sign(private, []byte(text))),
		"one under the witness's hash":  line(w.Key.KeyHash(), ed25519.Sign(private, []byte(text))),
		"another note":                  "\n" + foreign,
		"the log's own signature":       strings.TrimPrefix(string(signed), text+"\n"),
		"a line without its line feed":  strings.TrimSuffix(foreign, "\n"),
		"more lines than a note may be": strings.Repeat(foreign, 200),
		"an endless answer":             strings.Repeat("x", 300<<10),
	} {
		answer.Store(text)
		if got, err := gatherer(t, 1, io.Discard, time.Now, w).Gather(t.Context(), signed, l.prove); err == nil {
			t.Errorf("%s is taken:\n%s", name, got)
		}
	}
	// The witness's own signature, but of more than it was asked.
	more := text + "\nmore\n"
	ownKey, err := transparency.NewCosignerKey("w")
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := transparency.NewCosigner(ownKey, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	long, err := note.Sign(&note.Note{Text: more}, cosigner)
	if err != nil {
		t.Fatal(err)
	}
	answer.Store(string(long[len(text)+1:]))
	if w.Key, err = transparency.NewCosignatureVerifier(cosigner.VerifierKey()); err != nil {
		t.Fatal(err)
	}
	if got, err := gatherer(t, 1, io.Discard, time.Now, w).Gather(t.Context(), signed, l.prove); err == nil {
		t.Errorf("a signature of another text is taken:\n%s", got)
	}
	for _, text := range []string{"", "x", "8\n", "-1\n", "7\n", "99999999999999999999\n", "07\n"} {
		w, _ := fake(t, "w", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, text)
		})
		if got, err := gatherer(t, 1, io.Discard, time.Now, w).Gather(t.Context(), signed, l.prove); err == nil {
			t.Errorf("409 %q gave:\n%s", text, got)
		}
	}
}
