package api_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// lineFor is a line of an import.
func lineFor(name, more string) string {
	return `{"email":"` + name + `@sentryagent.ai","agentType":"fleet","version":"1.0.0","capabilities":["files:read"],"owner":"ops","deploymentEnv":"production"` + more + "}\n"
}

func linesFor(prefix string, n int) string {
	var text strings.Builder
	for i := range n {
		text.WriteString(lineFor(fmt.Sprintf("%s-%d", prefix, i), ""))
	}
	return text.String()
}

// imports is the operation, which takes lines.
var imports = operation{method: http.MethodPost, path: "/agents/import", mediaType: "application/x-ndjson"}

// answered is an answer while it comes.
type answered struct {
	StatusCode int
	Body       io.Reader
}

// importing sends a body as it comes, past the contract's checks, which want all of it.
func importing(t *testing.T, w *world, body io.Reader) answered {
	t.Helper()
	resp, err := tryImporting(t, w, body)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func tryImporting(t *testing.T, w *world, body io.Reader) (answered, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.URL+"/agents/import", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	r.Header.Set("Authorization", "Bearer "+w.admin)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	resp, err := (&http.Client{Transport: transport, Timeout: 2 * time.Minute}).Do(r)
	if err != nil {
		return answered{}, err
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return answered{resp.StatusCode, resp.Body}, nil
}

// count gives how many agents there are whose email begins so.
func (w *world) count(prefix string) int {
	w.t.Helper()
	text := w.Call(http.MethodGet, "/agents/export", w.admin, "").Body
	return bytes.Count(text, []byte(`{"email":"`+prefix))
}

func TestLinesAreAnsweredBeforeTheBodyEnds(t *testing.T) {
	w := newWorld(t)
	in, out := io.Pipe()
	go func() { _, _ = io.WriteString(out, lineFor("talk-0", "")) }()
	resp := importing(t, w, in)
	answers := bufio.NewScanner(resp.Body)
	for i := range 5 {
		if !answers.Scan() || !strings.Contains(answers.Text(), fmt.Sprintf(`"line":%d,"result":"created"`, i+1)) {
			t.Fatalf("answer %d: %q %v", i+1, answers.Text(), answers.Err())
		}
		if _, err := io.WriteString(out, lineFor(fmt.Sprintf("talk-%d", i+1), "")); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if !answers.Scan() || answers.Scan() || answers.Err() != nil {
		t.Errorf("after the last line: %q, %v", answers.Text(), answers.Err())
	}
}

// endless is a line without an end that counts what is read of it.
type endless struct {
	left int64
	read atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), e.left))
	for i := range n {
		p[i] = 'x'
	}
	e.left -= int64(n)
	e.read.Add(int64(n))
	return n, nil
}

func TestALineOfAGigabyteEndsTheImport(t *testing.T) {
	w := newWorld(t)
	body := &endless{left: 1 << 30}
	resp, err := tryImporting(t, w, io.MultiReader(strings.NewReader(lineFor("before", "")), body))
	// Who does not read while the connection is reset hears nothing of the answer.
	if err == nil {
		var text []byte
		if text, err = io.ReadAll(resp.Body); len(text) > 0 && bytes.Count(text, []byte("\n")) == 2 && !bytes.Contains(text, []byte("PAYLOAD_TOO_LARGE")) {
			t.Errorf("the answers: %s", text)
		}
	}
	if err == nil {
		t.Error("the answer looks whole")
	}
	waitUntil(t, func() bool { return w.count("before") == 1 })
	if body.read.Load() > 64<<20 {
		t.Errorf("%d bytes of the line were taken", body.read.Load())
	}
}

func TestALineThatIsTooLongFailsAlone(t *testing.T) {
	w := newWorld(t)
	for _, n := range []int{64<<10 + 1, 100 << 10, 200 << 10, 900 << 10} {
		long := lineFor("long", `,"metadata":{"x":"`+strings.Repeat("x", n)+`"}`)
		name := fmt.Sprintf("after-%d", n)
		for _, text := range []string{long + lineFor(name, ""), lineFor(name, "") + strings.TrimSuffix(long, "\n")} {
			resp := importing(t, w, strings.NewReader(text))
			got, err := io.ReadAll(resp.Body)
			answers, _ := apptest.Lines(got)
			if err != nil || len(answers) != 2 || bytes.Count(got, []byte("PAYLOAD_TOO_LARGE")) != 1 || bytes.Count(got, []byte(`"result":"failed"`)) != 1 {
				t.Errorf("a line of %d bytes: %v %.300s", n, err, got)
			}
		}
	}
	if w.count("long") != 0 || w.count("after") != 4 {
		t.Errorf("%d long agents and %d others", w.count("long"), w.count("after"))
	}
}

// TestABodyThatBreaksOffIsNotReadOn sends a body that ends too early, within a line that
// would be a line: what was whole is stored, and the rest is not guessed at.
func TestABodyThatBreaksOffIsNotReadOn(t *testing.T) {
	w := newWorld(t)
	whole := linesFor("whole", 300)
	half := strings.TrimSuffix(lineFor("half", ""), "\n")
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "POST /agents/import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%s%s",
		w.admin, len(whole)+len(half)+100, whole, half); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil || bytes.Count(text, []byte(`"result":"created"`)) != 300 {
		t.Errorf("the answer ends with %v after %d lines", err, bytes.Count(text, []byte("\n")))
	}
	if w.count("half") != 0 || w.count("whole") != 300 {
		t.Errorf("%d halves and %d whole lines were stored", w.count("half"), w.count("whole"))
	}
}

func TestWhatIsNoTextFailsAlone(t *testing.T) {
	w := newWorld(t)
	resp := importing(t, w, strings.NewReader(
		lineFor("good-1", "")+lineFor("bad-\xff", "")+lineFor("bad-\x00", "")+lineFor("bad", `,"metadata":{"x":"\u0000"}`)+
			lineFor("bad", `,"metadata":{"x":"\ud800"}`)+strings.Repeat("[", 10_000)+"\n"+lineFor("bad", `,"credential":null`)+
			lineFor("bad", `,"credential":{"secret":"mine"}`)+lineFor("bad", `,"id":"3f1d8a52-6c1e-4b8e-9a56-0d3f4f1f9b11"`)+"\r\n \r\n"+lineFor("good-2", "")))
	text, err := io.ReadAll(resp.Body)
	answers, _ := apptest.Lines(text)
	if err != nil || len(answers) != 10 || bytes.Count(text, []byte(`"failed"`)) != 8 || answers[9]["line"] != float64(12) || answers[9]["result"] != "created" {
		t.Errorf("%v\n%s", err, text)
	}
	for _, field := range []string{`"field":"credential","rule":"type"`, `"field":"credential.secret","rule":"unknown"`, `"field":"id","rule":"readOnly"`, `"field":"metadata.x"`} {
		if !bytes.Contains(text, []byte(field)) {
			t.Errorf("no line names %s", field)
		}
	}
	if w.count("bad") != 0 || w.count("good") != 2 {
		t.Error("a bad line was stored, or a good one was not")
	}
}

// TestOneFileImportedByManyMakesEachAgentOnce imports the same lines several times at
// once: every answer is created or unchanged, and every line is created once.
func TestOneFileImportedByManyMakesEachAgentOnce(t *testing.T) {
	w := newWorld(t)
	const n, crowd = 1500, 4
	text := linesFor("same", n)
	answers := make([]apptest.Answer, crowd)
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			answers[i] = w.send(imports, w.admin, nil, text)
		})
	}
	wg.Wait()
	created := map[any]int{}
	ids := make([][]any, n)
	for _, a := range answers {
		lines, err := apptest.Lines(a.Body)
		if err != nil || len(lines) != n {
			t.Fatalf("%d answers, %v: %.300s", len(lines), err, a.Body)
		}
		for i, line := range lines {
			if line["result"] == "created" {
				created[line["email"]]++
			} else if line["result"] != "unchanged" {
				t.Fatalf("a line of the same file: %v", line)
			}
			if ids[i] = append(ids[i], line["id"]); ids[i][0] != line["id"] {
				t.Fatalf("line %d is two agents: %v", i+1, ids[i])
			}
		}
	}
	for email, times := range created {
		if times != 1 {
			t.Errorf("%s was created %d times", email, times)
		}
	}
	if len(created) != n || w.count("same") != n {
		t.Errorf("%d were said to be created, %d are there, want %d", len(created), w.count("same"), n)
	}
}

func TestAnOrganizationHasFourImportsAtATime(t *testing.T) {
	w := newWorld(t)
	var outs []*io.PipeWriter
	for i := range 4 {
		in, out := io.Pipe()
		outs = append(outs, out)
		go func() { _, _ = io.WriteString(out, lineFor(fmt.Sprintf("slow-%d", i), "")) }()
		resp := importing(t, w, in)
		if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	fifth := func() apptest.Answer { return w.send(imports, w.admin, nil, "\n") }
	if got := fifth(); got.Status != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
		t.Errorf("the fifth: %d %s", got.Status, got.Body)
	}
	other := w.Call(http.MethodPost, "/organizations", w.admin, `{"name":"acme"}`).JSON(t)["id"].(string)
	if got := w.send(imports, w.admin, func(r *http.Request) { r.URL.RawQuery = "organizationId=" + other }, "\n"); got.Status != http.StatusOK || len(got.Body) != 0 {
		t.Errorf("an import of another organization, of nothing: %d %s", got.Status, got.Body)
	}
	for _, out := range outs {
		_ = out.CloseWithError(errors.New("the client has gone"))
	}
	waitUntil(t, func() bool { return fifth().Status == http.StatusOK })
}

// TestWithoutTheDatabaseAnImportBreaksOff takes the database away half-way: what was not
// stored is not answered.
func TestWithoutTheDatabaseAnImportBreaksOff(t *testing.T) {
	w := newWorld(t)
	in, out := io.Pipe()
	go func() { _, _ = io.WriteString(out, lineFor("stored", "")) }()
	answers := bufio.NewReader(importing(t, w, in).Body)
	if _, err := answers.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := w.App.Close(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(out, lineFor("lost", "")) // it may be broken off already
	if rest, err := io.ReadAll(answers); err == nil || len(rest) > 0 {
		t.Errorf("%v after %q", err, rest)
	}
}

// TestAnExportIsTakenBack exports more than a page while agents are added, and imports it
// elsewhere: there it is the same.
func TestAnExportIsTakenBack(t *testing.T) {
	w := newWorld(t)
	const n = 1300
	if got := bytes.Count(readAll(t, importing(t, w, strings.NewReader(linesFor("fleet", n)))), []byte("created")); got != n {
		t.Fatalf("%d were created", got)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+"/agents/export?agentType=fleet", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.admin)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	reader := bufio.NewReader(resp.Body)
	first, err := reader.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, importing(t, w, strings.NewReader(linesFor("later", 300))))
	rest, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	exported := slices.Sorted(strings.Lines(first + string(rest)))
	if len(exported) != n {
		t.Errorf("%d were exported, want the %d that were there", len(exported), n)
	}
	elsewhere := newWorld(t)
	back := bytes.Count(readAll(t, importing(t, elsewhere, strings.NewReader(strings.Join(exported, "")))), []byte("created"))
	again := slices.Sorted(strings.Lines(string(elsewhere.Call(http.MethodGet, "/agents/export?agentType=fleet", elsewhere.admin, "").Body)))
	if back != n || !slices.Equal(exported, again) {
		t.Errorf("%d were taken back, and an export of them is the same: %v", back, slices.Equal(exported, again))
	}
}

func readAll(t *testing.T, resp answered) []byte {
	t.Helper()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %v %.300s", resp.StatusCode, err, text)
	}
	return text
}

// TestWhoReadsNothingMaySendAThousandLines sends all before it reads anything, as many
// clients do.
func TestWhoReadsNothingMaySendAThousandLines(t *testing.T) {
	w := newWorld(t)
	text := strings.ReplaceAll(linesFor("mute", 1000), "}\n", `,"credential":{}}`+"\n")
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "POST /agents/import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%s",
		w.admin, len(text), text); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return w.count("mute") == 1000 })
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if n := bytes.Count(readAll(t, answered{resp.StatusCode, resp.Body}), []byte(`"clientSecret":"sidp_`)); n != 1000 {
		t.Errorf("%d secrets came", n)
	}
}

func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to that within a minute")
		}
	}
}
