package e2e_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	streamRounds  = 4
	streamClients = 4
	streamSecret  = "a-secret-of-more-than-24-bytes"
)

// receiver takes what a webhook is sent. It shares no code with the product.
type receiver struct {
	t   *testing.T
	url string

	mu      sync.Mutex
	lines   [][]byte // as they came
	batches map[string][]byte
	busy    int           // so many more are answered that they come later
	held    chan struct{} // is closed when a delivery was taken that gets no answer
	hold    bool
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t, batches: map[string][]byte{}}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	r.url = s.URL + "/siem"
	return r
}

// ServeHTTP takes a batch, and answers as it was told to.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender was killed meanwhile
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.signed(req.Header, body) {
		r.t.Errorf("a delivery that is not signed: %v", req.Header)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.busy > 0 {
		r.busy--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.take(req.Header, body)
	if r.hold {
		r.hold = false
		close(r.held)
		r.mu.Unlock()
		<-req.Context().Done() // the sender dies without an answer
		r.mu.Lock()
	}
}

// signed checks the signature as docs/audit-export.md says.
func (r *receiver) signed(h http.Header, body []byte) bool {
	mac := hmac.New(sha256.New, []byte(streamSecret))
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), body)
	return h.Get("Webhook-Signature") == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func (r *receiver) take(h http.Header, body []byte) {
	lines := bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
	first, last := sequenceOf(lines[0]), sequenceOf(lines[len(lines)-1])
	if h.Get("Audit-First-Sequence") != strconv.FormatInt(first, 10) || h.Get("Audit-Last-Sequence") != strconv.FormatInt(last, 10) {
		r.t.Errorf("a batch of %d to %d says %v", first, last, h)
	}
	if known, ok := r.batches[h.Get("Webhook-Id")]; ok && !bytes.Equal(known, body) {
		r.t.Errorf("two batches have the id %s", h.Get("Webhook-Id"))
	}
	r.batches[h.Get("Webhook-Id")] = body
	r.lines = append(r.lines, lines...)
}

// holdNext has the next delivery taken and not answered.
func (r *receiver) holdNext() (held <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold, r.held = true, make(chan struct{})
	return r.held
}

// sequenceOf is 0 where a line is not an event.
func sequenceOf(line []byte) int64 {
	var e event
	if json.Unmarshal(line, &e) != nil {
		return 0
	}
	return e.Sequence
}

// delivered checks that every event was delivered, in order but for repetitions, in its
// canonical bytes.
func delivered(t *testing.T, what string, lines [][]byte, o owner) {
	t.Helper()
	last, repeated, broken := int64(0), 0, 0
	for _, line := range lines {
		n := sequenceOf(line)
		if n == 0 {
			broken++
			continue
		}
		var body []byte
		if err := o.db.QueryRow("SELECT body FROM audit_events WHERE sequence = ?", n).Scan(&body); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`{"sequence":%d,%s`, n, body[1:]); string(line) != want {
			t.Errorf("%s: the event is\n%s\nand came as\n%s", what, want, line)
		}
		if n <= last {
			repeated++
			continue
		}
		if n != last+1 {
			t.Fatalf("%s: event %d follows %d", what, n, last)
		}
		last = n
	}
	if head := o.head(); last != head {
		t.Errorf("%s: %d of %d events", what, last, head)
	}
	t.Logf("%s: %d events, %d repeated, %d lines cut off", what, last, repeated, broken)
	if what == "webhook" && (repeated == 0 || broken > 0) {
		t.Errorf("%s: %d events were repeated, %d lines are broken", what, repeated, broken)
	}
}

// TestStreamsLoseNothingInCrashes kills the server while it delivers: file and webhook
// have every event at least once, in order, and signed (R4).
func TestStreamsLoseNothingInCrashes(t *testing.T) {
	dir, to := t.TempDir(), newReceiver(t)
	file := filepath.Join(t.TempDir(), "record.ndjson")
	env := append([]string{"AUDIT_STREAM_FILE=" + file, "AUDIT_STREAM_WEBHOOK=" + to.url, "AUDIT_STREAM_WEBHOOK_SECRET=" + streamSecret}, auditEnv...)
	s := start(t, dir, env...)
	admin := s.first(t)
	client := s.register(t, s.token(t, admin, management), "streams").Credential
	for range streamRounds {
		held := to.holdNext()
		var clients sync.WaitGroup
		for range streamClients {
			clients.Go(func() { // until it is killed
				for {
					if _, err := s.tokenReply(client, "invoices:read"); err != nil {
						return
					}
				}
			})
		}
		waitFor(t, "a delivery", func() bool {
			select {
			case <-held:
				return true
			default:
				return false
			}
		})
		s.kill(t)
		clients.Wait()
		to.mu.Lock()
		to.busy = 1
		to.mu.Unlock()
		s = start(t, dir, env...)
	}
	s.issue(t, admin, 50)
	db := embedded(t, filepath.Join(dir, "agentidp.db"))
	_, key := s.logKey(t)
	s.covers(t, db, key)
	waitFor(t, "everything to be delivered", func() bool {
		return db.number("SELECT count(*) FROM audit_streams WHERE sequence = (SELECT h.sequence FROM audit_head h)") == 2
	})
	if !strings.Contains(s.stdout.String(), "delivering the record fails; it is tried again") || !strings.Contains(s.stdout.String(), "delivering the record works again") {
		t.Errorf("the log says nothing of a receiver that was busy:\n%s", s.stdout.String())
	}
	s.stop(t)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	delivered(t, "file", bytes.Split(bytes.TrimSuffix(content, []byte("\n")), []byte("\n")), db)
	to.mu.Lock()
	defer to.mu.Unlock()
	delivered(t, "webhook", to.lines, db)
}
