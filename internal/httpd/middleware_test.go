package httpd_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/httpd"
)

// Every answer carries an id, so that a caller can name the request (R39).
func TestEveryAnswerCarriesARequestID(t *testing.T) {
	var log buffer
	h := httpd.Chain(config(&log), endpoints())
	seen := map[string]bool{}
	for _, c := range []struct{ method, target string }{
		{"GET", "/agents"},
		{"GET", "/nothing"},
		{"PUT", "/agents"},
		{"GET", "/panic"},
		{"GET", "//agents"},
		{"GET", "/health"},
		{"GET", "/agents?q=" + strings.Repeat("x", 9000)},
	} {
		id := ask(h, c.method, c.target).Header().Get("X-Request-Id")
		if id == "" || seen[id] {
			t.Errorf("%s %.20s was answered with the id %q, want a fresh one", c.method, c.target, id)
		}
		seen[id] = true
	}
	for _, line := range log.lines(t) {
		if id, _ := line["requestId"].(string); !seen[id] {
			t.Errorf("the log names the request %q, which no answer carried", id)
		}
	}
}

func TestASaneRequestIDIsKeptAndAHostileOneReplaced(t *testing.T) {
	for name, c := range map[string]struct {
		id   string
		kept bool
	}{
		"a UUID":              {"0190a3b4-0000-7000-8000-000000000000", true},
		"all that is allowed": {"aZ09-_.", true},
		"64 characters":       {strings.Repeat("a", 64), true},
		"65 characters":       {strings.Repeat("a", 65), false},
		"a newline":           {"abc\nlevel=ERROR", false},
		"a carriage return":   {"abc\r\nSet-Cookie: a=b", false},
		"unicode":             {"идентификатор", false},
		"a space":             {"a b", false},
		"a quote":             {`a"b`, false},
		"markup":              {"<script>", false},
		"a NUL":               {"a\x00b", false},
	} {
		t.Run(name, func(t *testing.T) {
			var log buffer
			w := ask(httpd.Chain(config(&log), endpoints()), "GET", "/agents", header("X-Request-Id", c.id))
			got := w.Header().Get("X-Request-Id")
			if (got == c.id) != c.kept || got == "" {
				t.Errorf("the id %q was answered with %q, want kept = %t", c.id, got, c.kept)
			}
			if logged := log.only(t)["requestId"]; logged != got {
				t.Errorf("the log has the id %q, the answer %q", logged, got)
			}
		})
	}
}

// One line per request says what happened and no secret (R39).
func TestTheLogLineSaysWhatHappened(t *testing.T) {
	for _, c := range []struct {
		method, target, route, level string
		status                       int
	}{
		{"GET", "/agents", "GET /agents", "INFO", 200},
		{"GET", "/agents/17", "GET /agents/{agentId}", "INFO", 200},
		{"DELETE", "/agents", "/agents", "INFO", 405},
		{"GET", "/nothing", "/", "INFO", 404},
		{"GET", "/panic", "GET /panic", "ERROR", 500},
		{"GET", "/silent", "GET /silent", "INFO", 200}, // what net/http sends for a handler that wrote nothing
	} {
		t.Run(c.method+" "+c.target, func(t *testing.T) {
			var log buffer
			w := ask(httpd.Chain(config(&log), endpoints()), c.method, c.target)
			line := log.only(t)
			for key, want := range map[string]any{
				"requestId": w.Header().Get("X-Request-Id"), "method": c.method, "route": c.route, "level": c.level,
				"status": float64(c.status), "bytes": float64(w.Body.Len()), "source": "192.0.2.1",
			} {
				if line[key] != want {
					t.Errorf("%s = %v, want %v", key, line[key], want)
				}
			}
			if d, ok := line["durationMicros"].(float64); !ok || d <= 0 {
				t.Errorf("duration = %v, want how long it took", line["durationMicros"])
			}
		})
	}
}

func TestNoSecretOfARequestReachesTheLog(t *testing.T) {
	var log buffer
	h := httpd.Chain(config(&log), endpoints())
	secrets := []string{"AUTHMARKER", "COOKIEMARKER", "QUERYMARKER", "PATHMARKER", "BODYMARKER", "AGENTMARKER"}
	for _, target := range []string{
		"/agents", "/agents/PATHMARKER", "/PATHMARKER", "//PATHMARKER", "/panic", "/health",
		"/agents/" + strings.Repeat("PATHMARKER", 1000),
	} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			r := httptest.NewRequest(method, target+"?token=QUERYMARKER&QUERYMARKER", strings.NewReader("client_secret=BODYMARKER"))
			r.Header.Set("Authorization", "Bearer AUTHMARKER")
			r.Header.Set("Cookie", "session=COOKIEMARKER")
			r.Header.Set("User-Agent", "AGENTMARKER")
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	if n := len(log.lines(t)); n != 21 {
		t.Errorf("21 requests left %d lines", n)
	}
	for _, secret := range secrets {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log contains %s:\n%s", secret, log.String())
		}
	}
}

func TestALoggerThatIsTurnedDownWritesOnlyFailures(t *testing.T) {
	var log buffer
	cfg := config(&log)
	cfg.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
	h := httpd.Chain(cfg, endpoints())
	ask(h, "GET", "/agents")
	ask(h, "GET", "/panic")
	if line := log.only(t); line["status"] != float64(500) {
		t.Errorf("the log has %v, want the failure alone", line)
	}
}

// A fault of one request is that request's alone (R38).
func TestAPanicIsAnsweredAsInternalAndTheServerGoesOn(t *testing.T) {
	var log buffer
	h := httpd.Chain(config(&log), endpoints())
	srv := httptest.NewServer(h)
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/panic")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusInternalServerError || !strings.Contains(string(body), `"code":"INTERNAL"`) {
		t.Errorf("a panic was answered %d %s (%v), want 500 INTERNAL", resp.StatusCode, body, err)
	}
	for _, leak := range []string{"PANICMARKER", "goroutine", ".go:"} {
		if strings.Contains(string(body), leak) {
			t.Errorf("the body tells %q: %s", leak, body)
		}
	}
	if next, err := srv.Client().Get(srv.URL + "/agents"); err != nil || next.StatusCode != http.StatusOK {
		t.Errorf("after the panic: %v, %v", next, err)
	} else {
		_ = next.Body.Close()
	}
	srv.Close() // waits for the handlers, and so for their log lines
	line := log.lines(t)[0]
	stack, _ := line["stack"].(string)
	if line["panic"] != "PANICMARKER" || !strings.Contains(stack, "goroutine") || line["level"] != "ERROR" || line["code"] != "INTERNAL" {
		t.Errorf("the log line %v does not explain the panic", line)
	}
	w := ask(h, "GET", "/panic")
	wantError(t, w, http.StatusInternalServerError, "INTERNAL")
}

// Who has read half an answer must not take it for a whole one (R38).
func TestAPanicWithinAnAnswerBreaksItOff(t *testing.T) {
	var log buffer
	srv := httptest.NewServer(httpd.Chain(config(&log), endpoints()))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/partial")
	if err == nil {
		var body []byte
		body, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil {
			t.Errorf("half an answer was taken for a whole one: %d %s", resp.StatusCode, body)
		}
	}
	srv.Close()
	line := log.only(t)
	stack, _ := line["stack"].(string)
	if line["level"] != "ERROR" || line["panic"] != "PANICMARKER" || line["aborted"] != true || !strings.Contains(stack, "goroutine") {
		t.Errorf("the log line %v does not explain the panic", line)
	}
}

func TestAHandlerThatAbortsIsNotAnswered(t *testing.T) {
	var log buffer
	srv := httptest.NewServer(httpd.Chain(config(&log), endpoints()))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/abort")
	if err == nil {
		_ = resp.Body.Close()
		t.Errorf("an aborted request was answered %d", resp.StatusCode)
	}
	srv.Close()
	if strings.Contains(log.String(), "stack") {
		t.Errorf("nothing panicked, but the log has a stack:\n%s", log.String())
	}
	if line := log.only(t); line["aborted"] != true || line["status"] != float64(0) {
		t.Errorf("the log line %v, want that nothing was answered", line)
	}
}

func TestSecurityHeadersAreOnEveryAnswer(t *testing.T) {
	var log buffer
	h := httpd.Chain(config(&log), endpoints())
	for _, c := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/agents", 200},
		{"GET", "/nothing", 404},
		{"PUT", "/agents", 405},
		{"GET", "/panic", 500},
		{"GET", "/agents?" + strings.Repeat("x", 9000), 413},
		{"GET", "/health", 200},
	} {
		w := ask(h, c.method, c.target)
		if w.Code != c.status {
			t.Errorf("%s %.20s: status %d, want %d", c.method, c.target, w.Code, c.status)
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy": "no-referrer", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
			"Cross-Origin-Resource-Policy": "same-origin", "Strict-Transport-Security": "",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %.20s: %s = %q, want %q", c.method, c.target, name, got, want)
			}
		}
	}
}

func TestHSTSIsSentOnlyWhereClientsComeByTLS(t *testing.T) {
	var log buffer
	cfg := config(&log)
	cfg.TLS = true
	for _, target := range []string{"/agents", "/nothing", "/panic"} {
		got := ask(httpd.Chain(cfg, endpoints()), "GET", target).Header().Get("Strict-Transport-Security")
		if !strings.HasPrefix(got, "max-age=") {
			t.Errorf("%s: Strict-Transport-Security = %q behind TLS", target, got)
		}
	}
}

func TestCORSIsOffUnlessConfigured(t *testing.T) {
	var log buffer
	h := httpd.Chain(config(&log), endpoints())
	for _, method := range []string{"GET", "OPTIONS"} {
		w := ask(h, method, "/agents", header("Origin", "https://app.example"), header("Access-Control-Request-Method", "POST"))
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s was answered with %s though CORS is off", method, name)
			}
		}
	}
}

func TestCORSAllowsConfiguredOriginsAndNoOther(t *testing.T) {
	var log buffer
	cfg := config(&log)
	cfg.CORSOrigins = []string{"https://app.example"}
	h := httpd.Chain(cfg, endpoints())
	for origin, allowed := range map[string]bool{
		"https://app.example": true, "https://app.example.evil.example": false, "http://app.example": false,
		"https://evil.example": false, "null": false, "": false, "*": false, "https://APP.example": false,
	} {
		for _, target := range []string{"/agents", "/nothing", "/panic"} {
			h2 := ask(h, "GET", target, header("Origin", origin)).Header()
			want := ""
			if allowed {
				want = origin
			}
			if got := h2.Get("Access-Control-Allow-Origin"); got != want {
				t.Errorf("origin %q at %s is allowed %q, want %q", origin, target, got, want)
			}
			if h2.Get("Vary") != "Origin" || h2.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("origin %q: headers %v, want Vary: Origin and no credentials", origin, h2)
			}
		}
		pre := ask(h, "OPTIONS", "/agents", header("Origin", origin), header("Access-Control-Request-Method", "PATCH"))
		granted := pre.Code == http.StatusNoContent && strings.Contains(pre.Header().Get("Access-Control-Allow-Methods"), "PATCH") &&
			strings.Contains(pre.Header().Get("Access-Control-Allow-Headers"), "Authorization")
		if granted != allowed {
			t.Errorf("preflight of %q: %d %v, want allowed = %t", origin, pre.Code, pre.Header(), allowed)
		}
	}
	if w := ask(h, "OPTIONS", "/agents", header("Origin", "https://app.example")); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("OPTIONS that is no preflight: %d, want 405", w.Code)
	}
}

// What is too long to be served is refused before anything reads it (R38).
func TestAURLOverEightKiBIsRefused(t *testing.T) {
	var log buffer
	h := httpd.Chain(config(&log), endpoints())
	const prefix = len("/agents?")
	if w := ask(h, "GET", "/agents?"+strings.Repeat("x", 8<<10-prefix)); w.Code != http.StatusOK {
		t.Errorf("a URL of 8 KiB: %d, want 200", w.Code)
	}
	wantError(t, ask(h, "GET", "/agents?"+strings.Repeat("x", 8<<10-prefix+1)), http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
	wantError(t, ask(h, "GET", "/"+strings.Repeat("x", 8<<10)), http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
	escaped := "/agents/" + strings.Repeat("%41", 8<<10/3) // what counts is what was sent
	wantError(t, ask(h, "GET", escaped), http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
}
