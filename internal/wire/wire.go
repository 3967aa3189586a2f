package wire

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
)

// Status gives the HTTP status of a kind of failure.
func Status(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case fault.Conflict:
		return http.StatusConflict
	case fault.PreconditionFailed:
		return http.StatusPreconditionFailed
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.UnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case fault.RateLimited:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// Failure is an error as the API shows it (R33).
type Failure struct {
	Code    fault.Code `json:"code"`
	Message string     `json:"message"`
	Details details    `json:"details"`
}

type details struct {
	Fields []fault.Field `json:"fields,omitempty"`
	Scope  string        `json:"scope,omitempty"`
}

// Describe shows a fault.
func Describe(f *fault.Error) Failure {
	return Failure{Code: f.Code, Message: f.Message, Details: details{Fields: f.Fields, Scope: f.Scope}}
}

// Error answers with an error. An error that is no fault becomes INTERNAL, and
// its text goes to the request's log line alone.
func Error(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.As(err)
	if f == nil {
		f = &fault.Error{Kind: fault.Internal, Code: fault.CodeInternal, Message: "something went wrong on our side"}
	}
	request.Note(r.Context(), slog.String("code", string(f.Code)))
	if f.Kind == fault.Internal || f.Kind == fault.Unavailable {
		request.Note(r.Context(), slog.String("cause", err.Error()))
	}
	RetryAfter(w, f.RetryAfter)
	switch f.Kind {
	case fault.Unauthenticated:
		w.Header().Set("WWW-Authenticate", challenge(r))
	case fault.Forbidden:
		if f.Scope != "" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="agentidp", error="insufficient_scope", scope="`+f.Scope+`"`)
		}
	}
	JSON(w, r, Status(f.Kind), Describe(f))
}

// challenge tells apart, as RFC 6750 §3 asks, who presented nothing and whose
// token is not valid.
func challenge(r *http.Request) string {
	if r.Header.Get("Authorization") == "" {
		return `Bearer realm="agentidp"`
	}
	return `Bearer realm="agentidp", error="invalid_token"`
}

// The headers of limits as net/http keeps them: to bring a name into that form takes
// an allocation each time.
const (
	rateLimit       = "Ratelimit"
	rateLimitPolicy = "Ratelimit-Policy"
)

// RateLimit adds what is left of a limit to the headers that tell of all of them;
// a limit that is off adds nothing.
func RateLimit(h http.Header, name string, b request.Budget) {
	if b.Limit == 0 {
		return
	}
	var room [96]byte
	policy := append(append(append(room[:0], '"'), name...), `";q=`...)
	policy = append(strconv.AppendInt(policy, b.Limit, 10), `;w=60`...)
	addItem(h, rateLimitPolicy, policy)
	state := append(append(append(room[:0], '"'), name...), `";r=`...)
	state = append(strconv.AppendInt(state, b.Remaining, 10), `;t=`...)
	addItem(h, rateLimit, strconv.AppendInt(state, int64(math.Ceil(b.Reset.Seconds())), 10))
}

// addItem adds to a header that is one list.
func addItem(h http.Header, name string, item []byte) {
	if have := h[name]; len(have) == 1 {
		have[0] += ", " + string(item)
		return
	}
	h[name] = []string{string(item)}
}

// RetryAfter sets the header to whole seconds, rounded up; zero sets nothing.
func RetryAfter(w http.ResponseWriter, d time.Duration) {
	if d > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(d.Seconds()))))
	}
}

// JSON answers with a value. A client that went away is noted and nothing more.
func JSON[T any](w http.ResponseWriter, r *http.Request, status int, value T) {
	encoded, err := json.Marshal(value)
	if err != nil {
		// Not wrapped: whatever it is, it is our failure and not the caller's.
		Error(w, r, fmt.Errorf("encoding the answer: %v", err)) //nolint:errorlint // see above
		return
	}
	Encoded(w, r, status, encoded)
}

// Encoded answers with a value that is JSON already. A client that went away is noted and
// nothing more.
func Encoded(w http.ResponseWriter, r *http.Request, status int, encoded []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(encoded); err != nil {
		request.Note(r.Context(), slog.String("write", err.Error()))
	}
}
