package wire_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// answer gives what Error writes, and what it notes for the log line.
func answer(err error, edit ...func(*http.Request)) (*httptest.ResponseRecorder, map[string]string) {
	info := &request.Info{}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r = r.WithContext(request.With(r.Context(), info))
	for _, e := range edit {
		e(r)
	}
	w := httptest.NewRecorder()
	wire.Error(w, r, err)
	return w, notes(info)
}

func notes(info *request.Info) map[string]string {
	noted := map[string]string{}
	for _, a := range info.Attrs() {
		noted[a.Key] = a.Value.String()
	}
	return noted
}

// Every kind of failure has one status, on every interface (R33).
func TestEveryKindOfFailureHasItsStatus(t *testing.T) {
	statuses := map[fault.Kind]int{
		fault.Internal: 500, fault.Invalid: 400, fault.Unauthenticated: 401, fault.Forbidden: 403, fault.NotFound: 404,
		fault.MethodNotAllowed: 405, fault.Conflict: 409, fault.PreconditionFailed: 412, fault.TooLarge: 413,
		fault.UnsupportedMedia: 415, fault.RateLimited: 429, fault.Unavailable: 503,
	}
	for kind := fault.Internal; kind <= fault.Unavailable; kind++ {
		want, known := statuses[kind]
		if !known {
			t.Errorf("the kind %d has no documented status", kind)
		}
		w, noted := answer(fmt.Errorf("wrapped: %w", fault.New(kind, "SOME_CODE", "what happened")))
		if w.Code != want || wire.Status(kind) != want {
			t.Errorf("kind %d is answered %d, want %d", kind, w.Code, want)
		}
		if got, want := w.Body.String(), `{"code":"SOME_CODE","message":"what happened","details":{}}`; got != want {
			t.Errorf("kind %d: body %s, want %s", kind, got, want)
		}
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("kind %d: Content-Type %q", kind, got)
		}
		if noted["code"] != "SOME_CODE" {
			t.Errorf("kind %d: the log line has %v, want the code", kind, noted)
		}
	}
	if got := wire.Status(fault.Kind(255)); got != http.StatusInternalServerError {
		t.Errorf("a kind nobody knows is answered %d, want 500", got)
	}
}

func TestAnUnknownErrorHidesItsTextFromAllButTheLog(t *testing.T) {
	for name, err := range map[string]error{
		"unknown":     errors.New("pq: SECRETMARKER"),
		"unavailable": fault.UnavailableBecause(errors.New("dial SECRETMARKER")),
		"cancelled":   fmt.Errorf("SECRETMARKER: %w", context.Canceled),
	} {
		w, noted := answer(err)
		if strings.Contains(w.Body.String(), "SECRETMARKER") || strings.Contains(fmt.Sprint(w.Header()), "SECRETMARKER") {
			t.Errorf("%s: the answer tells the cause: %s", name, w.Body)
		}
		if !strings.Contains(noted["cause"], "SECRETMARKER") {
			t.Errorf("%s: the log line has %v, want the cause", name, noted)
		}
	}
	if w, _ := answer(errors.New("x")); w.Code != 500 || !strings.Contains(w.Body.String(), `"code":"INTERNAL"`) {
		t.Errorf("an unknown error is answered %d %s, want 500 INTERNAL", w.Code, w.Body)
	}
}

func TestInvalidFieldsAndMissingScopesAreInTheDetails(t *testing.T) {
	w, _ := answer(fault.InvalidFields(fault.Field{Field: "name", Rule: "max", Message: "too <long>"}, fault.Field{Field: "type", Rule: "enum"}))
	var got struct {
		Details struct{ Fields []fault.Field }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if f := got.Details.Fields; len(f) != 2 || f[0] != (fault.Field{Field: "name", Rule: "max", Message: "too <long>"}) || f[1].Field != "type" {
		t.Errorf("body %s, want both fields", w.Body)
	}
	w, _ = answer(fault.MissingScope("agents:write"))
	if !strings.Contains(w.Body.String(), `"details":{"scope":"agents:write"}`) {
		t.Errorf("body %s, want the scope that is missing", w.Body)
	}
}

func TestRetryAfterIsWholeSecondsRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "", 0: "", 1: "1", time.Millisecond: "1", time.Second: "1", time.Second + 1: "2",
		1500 * time.Millisecond: "2", time.Minute: "60", time.Hour: "3600",
	} {
		w := httptest.NewRecorder()
		wire.RetryAfter(w, d)
		if got := w.Header().Get("Retry-After"); got != want {
			t.Errorf("RetryAfter(%s) = %q, want %q", d, got, want)
		}
	}
	w, _ := answer(&fault.Error{Kind: fault.RateLimited, Code: fault.CodeRateLimited, RetryAfter: 1100 * time.Millisecond})
	if got := w.Header().Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After = %q, want 2", got)
	}
}

// RFC 6750 §3: a challenge tells who presented nothing from whose token failed.
func TestOnlyAnswersAboutTheTokenCarryAChallenge(t *testing.T) {
	authorization := func(r *http.Request) { r.Header.Set("Authorization", "Bearer TOKENMARKER") }
	unauthenticated := fault.New(fault.Unauthenticated, fault.CodeAuthentication, "who are you")
	for name, c := range map[string]struct {
		err  error
		edit []func(*http.Request)
		want string
	}{
		"nothing presented":     {unauthenticated, nil, `Bearer realm="agentidp"`},
		"a token not valid":     {unauthenticated, []func(*http.Request){authorization}, `Bearer realm="agentidp", error="invalid_token"`},
		"a scope is missing":    {fault.MissingScope("a:b"), nil, `Bearer realm="agentidp", error="insufficient_scope", scope="a:b"`},
		"forbidden otherwise":   {fault.New(fault.Forbidden, "X", "no"), nil, ""},
		"invalid with a token":  {fault.InvalidField("a", "b", "c"), []func(*http.Request){authorization}, ""},
		"internal with a token": {errors.New("x"), []func(*http.Request){authorization}, ""},
	} {
		w, noted := answer(c.err, c.edit...)
		if got := w.Header().Get("WWW-Authenticate"); got != c.want {
			t.Errorf("%s: WWW-Authenticate = %q, want %q", name, got, c.want)
		}
		if strings.Contains(fmt.Sprint(noted, w.Header(), w.Body), "TOKENMARKER") {
			t.Errorf("%s: the token is repeated", name)
		}
	}
}

// gone is a client that went away.
type gone struct{ *httptest.ResponseRecorder }

func (gone) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestJSONThatCannotBeSentIsNoted(t *testing.T) {
	info := &request.Info{}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r = r.WithContext(request.With(r.Context(), info))
	w := httptest.NewRecorder()
	wire.JSON(w, r, http.StatusOK, func() {})
	want := `{"code":"INTERNAL","message":"something went wrong on our side","details":{}}`
	if w.Code != http.StatusInternalServerError || w.Body.String() != want || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("what is no JSON is answered %d %v %s, want 500 INTERNAL", w.Code, w.Header(), w.Body)
	}
	if noted := notes(info); noted["cause"] == "" || noted["code"] != "INTERNAL" {
		t.Errorf("noted %v, want the code and the cause", noted)
	}
	wire.JSON(gone{httptest.NewRecorder()}, r, http.StatusOK, "hello")
	if notes(info)["write"] != "broken pipe" {
		t.Errorf("noted %v, want that the client went away", notes(info))
	}
}

func TestJSONAnswersWithTheStatusAndTheValue(t *testing.T) {
	w := httptest.NewRecorder()
	wire.JSON(w, httptest.NewRequest(http.MethodGet, "/", nil), http.StatusCreated, map[string]int{"a": 1})
	if w.Code != http.StatusCreated || w.Body.String() != `{"a":1}` || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}
