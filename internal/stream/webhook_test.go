package stream_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/stream"
)

// receiver is somebody's server. It verifies and keeps what it answers 2xx to.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   [][]byte
	taken    []string
	// answer decides on a request; nil takes all.
	answer func(n int, w http.ResponseWriter) (took bool)
}

func newReceiver(t *testing.T, answer func(n int, w http.ResponseWriter) bool) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewTLSServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return // cut off
	}
	r.requests, r.bodies = append(r.requests, request), append(r.bodies, body)
	if r.answer != nil && !r.answer(len(r.requests), w) {
		return
	}
	for line := range strings.Lines(string(body)) {
		r.taken = append(r.taken, strings.TrimSuffix(line, "\n"))
	}
}

func (r *receiver) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.taken)
}

func (r *receiver) seen() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests)
}

func webhook(t *testing.T, to *receiver, signedWith string) *stream.Webhook {
	t.Helper()
	client := to.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	w, err := stream.NewWebhook(stream.Settings{Webhook: to.URL + "/in?token=hunter2", WebhookSecret: secret.New(signedWith)}, client, format(t, export.NDJSON), "1.2.3", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestAWebhookGetsSignedBatchesOnce(t *testing.T) {
	r, to := newRecord(7), newReceiver(t, nil)
	s := start(t, r, stream.RunnerConfig{Sink: webhook(t, to, secretText), Batch: 3})
	eventually(t, "everything", func() bool { return r.at("test") == 7 })
	s.stop()
	if got := to.lines(); !slices.Equal(got, lines(r.entries)) {
		t.Errorf("it got\n%v", got)
	}
	first := to.requests[0]
	id, err := r.entries[0].ID()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Webhook-Id": id + "-3", "Content-Type": "application/x-ndjson", "User-Agent": "agentidp/1.2.3", "Audit-First-Sequence": "1", "Audit-Last-Sequence": "3",
	} {
		if got := first.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if first.Method != http.MethodPost || first.URL.RequestURI() != "/in?token=hunter2" {
		t.Errorf("it was asked %s %s", first.Method, first.URL)
	}
}

// verify does what docs/audit-export.md tells receivers to do.
func verify(key []byte, h http.Header, body []byte) bool {
	at, err := strconv.ParseInt(h.Get("Webhook-Timestamp"), 10, 64)
	if err != nil || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, key)
	_, _ = io.WriteString(mac, h.Get("Webhook-Id")+"."+h.Get("Webhook-Timestamp")+"."+string(body))
	for one := range strings.FieldsSeq(h.Get("Webhook-Signature")) {
		encoded, ok := strings.CutPrefix(one, "v1,")
		sum, err := base64.StdEncoding.DecodeString(encoded)
		if ok && err == nil && hmac.Equal(sum, mac.Sum(nil)) {
			return true
		}
	}
	return false
}

func TestASignatureIsThatOfStandardWebhooks(t *testing.T) {
	raw := bytes.Repeat([]byte{0xfe}, 24)
	whsec := "whsec_" + base64.StdEncoding.EncodeToString(raw)
	for _, c := range []struct {
		name, secret string
		keys         [][]byte
	}{
		{"a text", secretText, [][]byte{[]byte(secretText)}},
		{"bytes in base64", whsec, [][]byte{raw}},
		{"two while it is changed", whsec + " " + secretText, [][]byte{raw, []byte(secretText)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := newReceiver(t, nil)
			deliver(t, webhook(t, to, c.secret), newRecord(2).entries)
			h, body := to.requests[0].Header, to.bodies[0]
			for _, key := range c.keys {
				if !verify(key, h, body) {
					t.Errorf("the signature %q is not good", h.Get("Webhook-Signature"))
				}
			}
			if verify([]byte("another secret of enough bytes"), h, body) || verify(c.keys[0], h, body[1:]) {
				t.Error("a wrong signature is good")
			}
			h.Set("Webhook-Id", "another")
			if verify(c.keys[0], h, body) {
				t.Error("the id is not signed")
			}
		})
	}
}

// A vector that another program computed.
func TestASignatureIsTheOneThatIsWrittenDown(t *testing.T) {
	var got http.Header
	at := time.Unix(1_674_087_231, 0)
	w, err := stream.NewWebhook(stream.Settings{Webhook: "https://siem.example.com", WebhookSecret: secret.New(secretText)},
		clientFunc(func(r *http.Request) (*http.Response, error) {
			got = r.Header
			return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, nil
		}), format(t, export.NDJSON), "", func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"v":1,"id":"0190163d-8694-739b-aea5-966c26f8ad91"}`
	deliver(t, w, []export.Entry{{Sequence: 5, Body: []byte(body)}})
	// printf '%s.%s.%s\n' ID 1674087231 '{"sequence":5,"v":1,"id":"…"}' | openssl dgst -sha256 -hmac SECRET -binary | base64
	if id, at, want := got.Get("Webhook-Id"), got.Get("Webhook-Timestamp"), "v1,r0F3YgF5QAp4qMT28GQYAWSuOJIQ6BgWIqlK+WbAWmA="; id != "0190163d-8694-739b-aea5-966c26f8ad91-5" || at != "1674087231" || got.Get("Webhook-Signature") != want {
		t.Errorf("id %s, timestamp %s, signature %s, want %s", id, at, got.Get("Webhook-Signature"), want)
	}
}

type clientFunc func(*http.Request) (*http.Response, error)

func (f clientFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// A receiver that fails in every way there is gets the same batch, with the same
// id, until it takes it.
func TestAReceiverThatFailsGetsItAgain(t *testing.T) {
	answers := []int{500, 503, 429, 404, 410, 301, 199, 408, 200}
	to := newReceiver(t, func(n int, w http.ResponseWriter) bool {
		switch status := answers[min(n, len(answers))-1]; status {
		case 199: // the connection breaks before an answer
			panic(http.ErrAbortHandler)
		case 301:
			w.Header().Set("Location", "https://127.0.0.1:1/elsewhere")
			w.WriteHeader(status)
			return false
		default:
			w.WriteHeader(status)
			return status == 200
		}
	})
	to.Config.ErrorLog = nil
	r := newRecord(5)
	s := start(t, r, stream.RunnerConfig{Sink: webhook(t, to, secretText), Batch: 3})
	eventually(t, "everything", func() bool { return r.at("test") == 5 })
	s.stop()
	if got := to.lines(); !slices.Equal(got, lines(r.entries)) {
		t.Errorf("it took\n%v", got)
	}
	for i, request := range to.requests[:len(answers)] {
		if id := request.Header.Get("Webhook-Id"); id != to.requests[0].Header.Get("Webhook-Id") || !bytes.Equal(to.bodies[i], to.bodies[0]) {
			t.Errorf("try %d is another: %s", i+1, id)
		}
	}
}

// The receiver took a batch, and its answer was lost: it comes again under its id.
func TestADuplicateIsKnownByItsID(t *testing.T) {
	var to *receiver
	to = newReceiver(t, func(n int, _ http.ResponseWriter) bool {
		if n == 1 {
			for line := range strings.Lines(string(to.bodies[0])) {
				to.taken = append(to.taken, strings.TrimSuffix(line, "\n"))
			}
			panic(http.ErrAbortHandler)
		}
		return true
	})
	r := newRecord(3)
	s := start(t, r, stream.RunnerConfig{Sink: webhook(t, to, secretText)})
	eventually(t, "everything", func() bool { return r.at("test") == 3 })
	s.stop()
	if got := to.lines(); len(got) != 6 || to.requests[0].Header.Get("Webhook-Id") != to.requests[1].Header.Get("Webhook-Id") {
		t.Errorf("it took %d events, want 3 twice under one id", len(got))
	}
	wantDelivered(t, r, to.lines())
}

func TestARetryAfterIsHonoured(t *testing.T) {
	now := time.Now()
	for text, want := range map[string]time.Duration{
		"120": 2 * time.Minute, "0": 0, "": 0, "soon": 0, "-5": 0, "999999": time.Hour,
		now.Add(10 * time.Minute).UTC().Format(http.TimeFormat): 10 * time.Minute,
		now.Add(-time.Minute).UTC().Format(http.TimeFormat):     0,
	} {
		to := newReceiver(t, func(_ int, w http.ResponseWriter) bool {
			w.Header().Set("Retry-After", text)
			w.WriteHeader(http.StatusTooManyRequests)
			return false
		})
		err := webhook(t, to, secretText).Deliver(t.Context(), newRecord(1).entries)
		refused, ok := errors.AsType[*stream.Refused](err)
		if !ok || refused.Status != 429 || (refused.RetryAfter-want).Abs() > 5*time.Second {
			t.Errorf("Retry-After %q is %+v, want %s", text, err, want)
		}
	}
	// And by the runner.
	p := &pauses{}
	to := newReceiver(t, func(n int, w http.ResponseWriter) bool {
		if n == 1 {
			w.Header().Set("Retry-After", "300")
			w.WriteHeader(http.StatusTooManyRequests)
		}
		return n > 1
	})
	r := newRecord(1)
	s := start(t, r, stream.RunnerConfig{Sink: webhook(t, to, secretText), Wait: p.wait})
	eventually(t, "everything", func() bool { return r.at("test") == 1 })
	s.stop()
	if d := p.all()[0]; d != 5*time.Minute {
		t.Errorf("the pause is %s, want 5m", d)
	}
}

func TestAReceiverThatIsDownAndBackMissesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	w, err := stream.NewWebhook(stream.Settings{Webhook: "http://" + address + "/?token=hunter2", WebhookSecret: secret.New(secretText)}, http.DefaultClient, format(t, export.NDJSON), "", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	r := newRecord(5)
	s := start(t, r, stream.RunnerConfig{Sink: w, Batch: 2})
	eventually(t, "the failure", func() bool { return s.Status().Err != nil })
	if text := s.Status().Err.Error(); strings.Contains(text, "hunter2") || strings.Contains(text, secretText) {
		t.Errorf("the error tells a secret: %s", text)
	}
	l, err = net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	to := &receiver{}
	server := &http.Server{Handler: to}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	eventually(t, "everything", func() bool { return r.at("test") == 5 })
	s.stop()
	wantDelivered(t, r, to.lines())
}

// The receiver hangs and the node is stopped.
func TestAHangingReceiverDoesNotHoldUpTheEnd(t *testing.T) {
	hang, asked := make(chan struct{}), make(chan struct{}, 1)
	to := newReceiver(t, func(int, http.ResponseWriter) bool { asked <- struct{}{}; <-hang; return true })
	r := newRecord(1)
	s := start(t, r, stream.RunnerConfig{Sink: webhook(t, to, secretText)})
	t.Cleanup(func() { close(hang) })
	<-asked
	s.stop()
	if r.at("test") != 0 {
		t.Error("the position moved")
	}
}

func TestWhatIsNoEventIsNotPosted(t *testing.T) {
	to := newReceiver(t, nil)
	for _, bad := range [][]export.Entry{{{Sequence: 1, Body: []byte("{}")}}, {newRecord(1).entries[0], {Sequence: 2}}} {
		if err := webhook(t, to, secretText).Deliver(t.Context(), bad); !errors.Is(err, export.ErrBody) {
			t.Errorf("Deliver = %v, want ErrBody", err)
		}
	}
	if to.seen() != 0 {
		t.Error("something was posted")
	}
}
