package stream_test

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/stream"
)

// TestTheReceiverOfTheDocumentWorks runs the example of docs/audit-export.md: it
// takes what is signed, each event once, and nothing else.
func TestTheReceiverOfTheDocumentWorks(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "audit-export.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(document), "```python\n")
	program, _, ok := strings.Cut(program, "```")
	if !ok {
		t.Fatal("the document has no example")
	}
	cmd := exec.CommandContext(t.Context(), python, write(t, []byte(program)), "0")
	cmd.Env = append(os.Environ(), "WEBHOOK_SECRET="+secretText)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	out := bufio.NewScanner(pipe)
	next := func() string {
		if !out.Scan() {
			t.Fatal("the receiver ended")
		}
		return out.Text()
	}
	port, ok := strings.CutPrefix(next(), "listening on ")
	if !ok {
		t.Fatal("the receiver does not say where it listens")
	}
	sink := func(signedWith string, now func() time.Time) *stream.Webhook {
		w, err := stream.NewWebhook(stream.Settings{Webhook: "http://127.0.0.1:" + port, WebhookSecret: secret.New(signedWith)}, http.DefaultClient, format(t, export.NDJSON), "", now)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	r := newRecord(4)
	for name, bad := range map[string]*stream.Webhook{
		"another secret": sink("another-secret-of-enough-bytes", time.Now),
		"an old request": sink(secretText, func() time.Time { return time.Now().Add(-time.Hour) }),
	} {
		if err := bad.Deliver(t.Context(), r.entries[:1]); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("%s: Deliver = %v, want 401", name, err)
		}
	}
	deliver(t, sink(secretText, time.Now), r.entries[:3])
	deliver(t, sink(strings.Repeat("new", 8)+" "+secretText, time.Now), r.entries) // again, and one more
	for i := range r.entries {
		e, err := r.entries[i].Event()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := next(), strings.Join([]string{string(rune('1' + i)), e.Time.Format("2006-01-02T15:04:05.000000Z"), "token.issued"}, " "); got != want {
			t.Errorf("the receiver took %q, want %q", got, want)
		}
	}
}
