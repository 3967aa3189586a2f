package oauth

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// maxBody bounds the body of an OAuth request, in bytes.
const maxBody = 16 << 10

// form is the parameters of a request, each at most once but resource. There are few,
// so that they are looked for one by one.
type form struct {
	values    []parameter
	resources []string
}

type parameter struct{ name, value string }

// maxParameters bounds how many there may be.
const maxParameters = 64

// readForm reads the parameters from the body alone: what stands in a URL ends
// up in logs and histories (RFC 6749 §3.2).
func readForm(w http.ResponseWriter, r *http.Request) (form, error) {
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		return form{}, invalidRequest("parameters belong in the body, not in the URL")
	}
	if !isForm(r.Header.Get("Content-Type")) {
		return form{}, fault.New(fault.UnsupportedMedia, fault.CodeUnsupportedMedia, "Content-Type must be application/x-www-form-urlencoded")
	}
	tooLarge := fault.New(fault.TooLarge, fault.CodePayloadTooLarge, "the body must be at most 16 KiB")
	if r.ContentLength > maxBody {
		return form{}, tooLarge // before it is sent, where the client waits to be told (RFC 9110 §10.1.1)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, is := errors.AsType[*http.MaxBytesError](err); is {
		return form{}, tooLarge
	}
	if err != nil {
		return form{}, invalidRequest("the body could not be read")
	}
	return parseForm(string(body))
}

func isForm(contentType string) bool {
	const form = "application/x-www-form-urlencoded"
	if contentType == form {
		return true // as nearly everybody writes it
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && mediaType == form
}

func parseForm(body string) (form, error) {
	f := form{values: make([]parameter, 0, 8)}
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return form{}, invalidRequest("the body is not well-formed")
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil || !clean(name) || !clean(value) {
			return form{}, invalidRequest("a parameter is not well-formed")
		}
		if value == "" {
			continue // it counts as omitted (RFC 6749 §3.2)
		}
		if name == "resource" {
			f.resources = append(f.resources, value)
			continue
		}
		if f.get(name) != "" {
			return form{}, invalidRequest("a parameter stands there more than once")
		}
		if len(f.values) == maxParameters {
			return form{}, invalidRequest("there are too many parameters")
		}
		f.values = append(f.values, parameter{name, value})
	}
	return f, nil
}

// clean reports whether s is text without control characters.
func clean(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// get gives a parameter, empty where it is absent.
func (f form) get(name string) string {
	for _, p := range f.values {
		if p.name == name {
			return p.value
		}
	}
	return ""
}
