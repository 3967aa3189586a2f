package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/verify"
	"git.sentryagent.ai/sentryagent-idp/internal/verify/verifytest"
)

func TestAFileIsVerifiedAndRemembered(t *testing.T) {
	r, l := newRunner(t), newTestLog(t, 100)
	file := func(l *verifytest.Log) string { return write(t, "events.ndjson", lines(l.Lines(nil))) }
	key := write(t, "log.key", l.Key+"\n")
	r.run(0, []string{"the record is right: log.example/audit, 100 leaves", "100 verified", "nothing was remembered", "events/s"}, "verify", file(l), "--key", l.Key)
	r.run(0, []string{"it had 100 leaves, and still has them"}, "verify", file(l.Fork(100)), "--key", key, "--all")
	r.stdin = lines(grow(l, 20).Lines(nil))
	r.run(0, []string{"120 leaves", "it had 100 leaves"}, "verify", "-", "--key", key)
	// What is wrong is named, exits with 2, and is not remembered.
	for range 2 {
		r.run(2, []string{"rolled back", "events 91 to 120", "keep this", "\n120\n", "\n90\n"}, "verify", file(l.Fork(90)), "--key", key)
		r.run(2, []string{"forked", "keep this", "\n120\n", "\n130\n"}, "verify", file(grow(l.Fork(90), 40)), "--key", key)
		changed := strings.Replace(lines(l.Lines(nil)), `"id":"42"`, `"id":"43"`, 1)
		r.run(2, []string{"altered, first at event 42 (", "line 42"}, "verify", write(t, "x", changed), "--key", key)
		_, _ = r.run(2, []string{"wrong signature"}, "verify", file(l), "--key", newTestLog(t, 0).Key)
	}
	r.run(0, []string{"it had 120 leaves"}, "verify", file(l), "--key", key)
	state := filepath.Join(t.TempDir(), "state.json")
	r.run(0, []string{"nothing was remembered"}, "verify", file(l), "--key", key, "--state", state)
	r.run(0, []string{"it had 120 leaves"}, "verify", file(l), "--state", state)
	r.run(1, []string{"another key"}, "verify", file(l), "--state", state, "--key", newTestLog(t, 0).Key)
}

func TestAFileThatHidesTheRememberedSizeNeedsAProof(t *testing.T) {
	r, l := newRunner(t), newTestLog(t, 20)
	r.run(0, nil, "verify", write(t, "x", lines(l.Lines(nil))), "--key", l.Key)
	grow(l, 44)
	hidden := write(t, "y", lines(l.Lines(func(i int64) bool { return i < 32 })))
	r.run(1, []string{"/audit/consistency?from=20&to=64", "--consistency"}, "verify", hidden, "--key", l.Key)
	proof := func(l *verifytest.Log) string {
		hashes, err := l.Consistency(20, 64)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(verify.Consistency{From: 20, To: 64, Hashes: hashes})
		return write(t, "proof", string(text))
	}
	r.run(2, []string{"forked"}, "verify", hidden, "--key", l.Key, "--consistency", proof(newTestLog(t, 64)))
	r.run(1, []string{"no such file"}, "verify", hidden, "--key", l.Key, "--consistency", "none.json")
	r.run(0, []string{"it had 20 leaves", "0 explained by drops"}, "verify", hidden, "--key", l.Key, "--consistency", proof(l))
}

func TestAServerIsVerifiedOverTheNetwork(t *testing.T) {
	r, l := newRunner(t), newTestLog(t, 50)
	s := serve(t, l)
	r.run(0, []string{"warning: no key was given", l.Key, "50 leaves"}, "verify", "--url", s.URL, "--all")
	if s.scope != "audit:read organizations:admin" || !s.sawPath("/audit/export?all=true&format=ndjson&proof=true") {
		t.Errorf("asked for %q with %q", s.asked, s.scope)
	}
	// From now on the key is known, and what lies in a gap is asked for.
	s.log, s.hidden = grow(l, 50), func(i int64) bool { return i < 64 }
	if _, errs := r.run(0, []string{"it had 50 leaves"}, "verify", "--url", s.URL+"/"); strings.Contains(errs, "warning") {
		t.Errorf("it warns again: %s", errs)
	}
	if s.scope != "audit:read" || !s.sawPath("/audit/consistency?from=50&to=100") {
		t.Errorf("asked for %q with %q", s.asked, s.scope)
	}
	// The file is remembered for the log, however it is read.
	r.run(0, []string{"it had 100 leaves"}, "verify", write(t, "x", lines(l.Lines(nil))), "--key", l.Key)
	r.run(2, []string{"unexplained gap, first at event 1:"}, "verify", "--url", s.URL, "--all")

	s.log, s.hidden = grow(l.Fork(80), 48), func(i int64) bool { return i < 128 }
	r.run(2, []string{"forked", "keep this"}, "verify", "--url", s.URL)
	s.broken = "/audit/consistency"
	r.run(1, []string{"500"}, "verify", "--url", s.URL)
	s.broken = ""
	// Another key is another log, whatever the server says of it.
	s.log, s.hidden = newTestLog(t, 200), nil
	r.run(2, []string{"wrong signature"}, "verify", "--url", s.URL)
	s.log = l
	r.run(0, []string{"it had 100 leaves"}, "verify", "--url", s.URL)
}

func TestTheKeyIsPinnedInTheStateThatIsNamed(t *testing.T) {
	r, l := newRunner(t), newTestLog(t, 50)
	s := serve(t, l)
	state := filepath.Join(t.TempDir(), "state.json")
	s.broken = "/audit/key"
	r.run(1, []string{"asking for the log's key", "500"}, "verify", "--url", s.URL, "--state", state)
	r.run(1, []string{"asking for the log's key", "500"}, "verify", "--url", s.URL)
	s.broken = ""
	s.export = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}\n") }
	r.run(2, []string{"warning", "malformed"}, "verify", "--url", s.URL, "--state", state)
	s.export = nil
	r.run(0, []string{"warning"}, "verify", "--url", s.URL, "--state", state)
	s.log = newTestLog(t, 50)
	_, errs := r.run(2, []string{"wrong signature"}, "verify", "--url", s.URL, "--state", state)
	if strings.Contains(errs, "warning") {
		t.Errorf("another key was believed: %s", errs)
	}
}

func TestOneProofIsVerified(t *testing.T) {
	r, l := newRunner(t), newTestLog(t, 50)
	s := serve(t, l)
	proof := func(l *verifytest.Log, leaf, size int64) string {
		hashes, err := l.Inclusion(leaf, size)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(verify.Inclusion{Leaf: l.Bodies[leaf], LeafIndex: leaf, TreeSize: size, Hashes: hashes, Checkpoint: string(l.Checkpoint(size))})
		return string(text)
	}
	early := write(t, "early", proof(l, 6, 20))
	r.run(0, []string{"event 7 is in the log log.example/audit of 20 leaves", "nothing was remembered", string(l.Bodies[6])}, "verify", "--proof", early, "--key", l.Key)
	r.run(0, []string{"warning"}, "verify", "--proof", early, "--url", s.URL)
	r.run(0, []string{"nothing was remembered"}, "verify", "--url", s.URL)
	r.run(0, []string{"not told without --url"}, "verify", "--proof", early, "--key", l.Key)
	r.run(0, []string{"50 leaves that is remembered is the same log"}, "verify", "--proof", early, "--url", s.URL)
	r.stdin = proof(l, 49, 50)
	r.run(0, []string{"is the same log"}, "verify", "--proof", "-", "--key", l.Key)
	late := write(t, "late", proof(grow(l, 10), 55, 60))
	r.run(0, []string{"is the same log"}, "verify", "--proof", late, "--url", s.URL)

	fork := grow(l.Fork(30), 30)
	r.run(2, []string{"forked"}, "verify", "--proof", write(t, "x", proof(fork, 40, 50)), "--key", l.Key)
	r.run(2, []string{"forked", "keep this", "\n50\n", "\n60\n"}, "verify", "--proof", write(t, "x", proof(fork, 40, 60)), "--url", s.URL)
	s.broken = "/audit/consistency"
	r.run(1, []string{"500"}, "verify", "--proof", late, "--url", s.URL)
	r.run(2, []string{"wrong tree", "event 6 ("}, "verify", "--proof", write(t, "x", strings.Replace(proof(l, 6, 20), `"leafIndex":6`, `"leafIndex":5`, 1)), "--key", l.Key)
	r.run(2, []string{"malformed"}, "verify", "--proof", write(t, "x", "{}"), "--key", l.Key)
	r.run(1, []string{"no such file"}, "verify", "--proof", "none.json", "--key", l.Key)
}

func TestAnExportIsWholeOrNotThere(t *testing.T) {
	r, l := newRunner(t), newTestLog(t, 50)
	s := serve(t, l)
	dir := t.TempDir()
	path := filepath.Join(dir, "events.ndjson")
	r.run(0, []string{"the export is in " + path}, "export", "--url", s.URL, "--proof", "--all", "-o", path)
	r.run(0, []string{"50 verified"}, "verify", path, "--all", "--key", l.Key)
	whole, _ := r.run(0, nil, "export", "--url", s.URL)
	if whole != lines(l.Lines(nil)) {
		t.Errorf("standard output has %q", whole)
	}
	for name, export := range map[string]func(w http.ResponseWriter, r *http.Request){
		"the connection breaks": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, whole[:1000])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
		"it ends too soon": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, whole[:len(whole)-1]) },
		"an event is last": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, whole[:strings.Index(whole, "\n")+1])
		},
		"its end is not told": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\n"+whole)
			_ = conn.Close()
		},
		"it is refused":    func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) },
		"it is redirected": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
	} {
		t.Run(name, func(t *testing.T) {
			r.t, s.export = t, export
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r.run(1, nil, "export", "--url", s.URL, "--proof", "-o", path)
			r.run(1, nil, "export", "--url", s.URL, "--proof", "-o", filepath.Join(dir, "new"))
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file changed: %v", err)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) != 1 {
				t.Errorf("left: %v, %v", left, err)
			}
			if s.sawPath("/elsewhere") {
				t.Error("a redirect was followed")
			}
		})
	}
	r.t, s.export = t, nil
	r.run(1, []string{"--output"}, "export", "--url", s.URL, "-o", filepath.Join(dir, "none", "x"))
	r.run(0, nil, "export", "--url", s.URL, "--format", "csv", "--organization", testClient, "--after", "7", "--from", "2026-01-02T03:04:05+02:00", "--to", "2026-02-02T03:04:05Z")
	last := s.asked[len(s.asked)-1]
	if last != "/audit/export?after=7&format=csv&from=2026-01-02T03%3A04%3A05%2B02%3A00&organizationId="+testClient+"&to=2026-02-02T03%3A04%3A05Z" || s.scope != "audit:read organizations:admin" {
		t.Errorf("asked for %s with %q", last, s.scope)
	}
}

func TestTheLastLineIsFoundHoweverItComes(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "\n": false, `{"checkpoint":"x"}` + "\n": true, `{"checkpoint":"x"}`: false, `{"checkpoint":"x"}` + "\n\n": true,
		`{"sequence":1}` + "\n" + `{"checkpoint":"x"}` + "\n": true, `{"checkpoint":"x"}` + "\n" + `{"sequence":1}` + "\n": false,
		`x{"checkpoint":"x"}` + "\n": false,
	} {
		for _, size := range []int{1, 2, 7, 100} {
			l := &lastLine{}
			for rest := []byte(text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				_, _ = l.Write(rest[:min(size, len(rest))])
			}
			if l.isCheckpoint() != want {
				t.Errorf("%q in pieces of %d: %t", text, size, !want)
			}
		}
	}
}

func TestWrongUseIsSaid(t *testing.T) {
	r, l := newRunner(t), newTestLog(t, 5)
	file := write(t, "x", lines(l.Lines(nil)))
	for says, args := range map[string][]string{
		"say what to verify":             {"verify"},
		"FILE: leave it out":             {"verify", file, "--proof", file},
		"--consistency: leave it out":    {"verify", "--url", "https://x.example", "--consistency", file},
		"--organization: only with":      {"verify", file, "--organization", testClient},
		"--organization: leave it out":   {"verify", "--url", "https://x.example", "--organization", testClient, "--all"},
		"--all: not with":                {"verify", "--proof", file, "--all"},
		"--key: say which":               {"verify", file},
		"--key: this is no verifier key": {"verify", file, "--key", "none"},
		"holds no verifier key":          {"verify", file, "--key", file},
		"no such file":                   {"verify", "none.ndjson", "--key", l.Key},
		"in the clear":                   {"verify", "--url", "http://idp.example.com"},
		"--url: give":                    {"export"},
		"--format":                       {"export", "--url", "https://x.example", "--format", "xml"},
		"--proof: only":                  {"export", "--url", "https://x.example", "--format", "csv", "--proof"},
		"--after":                        {"export", "--url", "https://x.example", "--after", "-1"},
		"--from":                         {"export", "--url", "https://x.example", "--from", "yesterday"},
		"such as https":                  {"export", "--url", "https://user@x.example"},
		"regular file":                   {"verify", file, "--key", l.Key, "--state", os.DevNull},
	} {
		r.run(1, []string{says}, args...)
	}
	s := serve(t, l)
	long := write(t, "long", strings.Repeat("x", maxSecretFile+1))
	good := write(t, "good", testSecret+"\n")
	for says, environ := range map[string][]string{
		"--state: say":               {},
		"AGENTIDP_CLIENT_ID":         {"HOME=" + t.TempDir()},
		"AGENTIDP_CLIENT_SECRET":     {"HOME=" + t.TempDir(), "AGENTIDP_CLIENT_ID=" + testClient},
		"one of both":                {"HOME=" + t.TempDir(), "AGENTIDP_CLIENT_ID=" + testClient, "AGENTIDP_CLIENT_SECRET=x", "AGENTIDP_CLIENT_SECRET_FILE=" + good},
		"is longer than":             {"HOME=" + t.TempDir(), "AGENTIDP_CLIENT_ID=" + testClient, "AGENTIDP_CLIENT_SECRET_FILE=" + long},
		"no such file":               {"HOME=" + t.TempDir(), "AGENTIDP_CLIENT_ID=" + testClient, "AGENTIDP_CLIENT_SECRET_FILE=none"},
		"getting a token: 401 {\"er": {"HOME=" + t.TempDir(), "AGENTIDP_CLIENT_ID=" + testClient, "AGENTIDP_CLIENT_SECRET=wrong"},
	} {
		r.environ = environ
		r.run(1, []string{says}, "verify", "--url", s.URL)
	}
	r.environ = []string{"HOME=" + t.TempDir(), "AGENTIDP_CLIENT_ID=" + testClient, "AGENTIDP_CLIENT_SECRET_FILE=" + good}
	r.run(0, nil, "verify", "--url", s.URL)
}

func TestASilentServerIsLeft(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer s.Close()
	server, err := remote(s.URL, false)
	if err != nil {
		t.Fatal(err)
	}
	server.silence = time.Second // what was sent is read long before
	body, err := server.stream(t.Context(), "/", nil, testToken())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if text, err := io.ReadAll(body); !errors.Is(err, errSilent) || string(text) != "a" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestTheBarTellsHowFarItIs(t *testing.T) {
	at := time.Now()
	var screen bytes.Buffer
	b := &bar{w: &screen, now: func() time.Time { return at }, total: 1000, began: at.Add(-2 * time.Second)}
	update := b.update()
	update(verify.Summary{Events: 200, Hidden: 50})
	update(verify.Summary{Events: 201, Hidden: 50}) // too soon to be drawn
	if got := screen.String(); got != "\rverifying [######..................]  25%  200 events  100/s  6s left\x1b[K" {
		t.Errorf("it shows %q", got)
	}
	b.clear()
	if !strings.HasSuffix(screen.String(), "\r\x1b[K") {
		t.Error("it stays")
	}
	for want, c := range map[string]struct {
		total, done int64
	}{"100%": {10, 11}, "verifying  0 events": {0, 11}, "  0%": {10, 0}} {
		if got := (&bar{total: c.total, bytes: true}).text(verify.Summary{Bytes: c.done}, 0); !strings.Contains(got, want) {
			t.Errorf("%+v shows %q, want %q", c, got, want)
		}
	}
	if none := newBar(&screen, 1, true); none.update() != nil {
		t.Error("a bar is drawn where nobody looks")
	}
	none, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	if newBar(none, 1, true).update() == nil {
		t.Error("no bar is drawn on a character device")
	}
	// Over the network the newest checkpoint tells how much there is, if it can be had.
	r := newRunner(t)
	s := serve(t, newTestLog(t, 5000))
	root := rootCommand(r.environ)
	for _, broken := range []string{"", "/audit/checkpoint"} {
		s.broken, s.asked = broken, nil
		root.SetArgs([]string{"audit", "verify", "--url", s.URL})
		root.SetOut(io.Discard)
		root.SetErr(none)
		if err := root.ExecuteContext(t.Context()); err != nil || !s.sawPath("/audit/checkpoint") {
			t.Errorf("%v, asked for %q", err, s.asked)
		}
	}
}
