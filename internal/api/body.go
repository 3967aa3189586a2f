package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Bounds on a request body.
const (
	maxBody  = 64 << 10 // bytes
	maxDepth = 16       // levels of JSON
)

// mergePatch is the media type of a JSON merge patch (RFC 7396).
const mergePatch = "application/merge-patch+json"

// object is a JSON object from a request body, or one within it.
type object struct {
	*findings
	raw []byte
	// prefix stands before the names of its fields, where it is within another.
	prefix  string
	members map[string]json.RawMessage
	known   []string
}

// readBody reads a body of any kind, within its bound.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	tooLarge := fault.New(fault.TooLarge, fault.CodePayloadTooLarge, "the body must be at most 64 KiB")
	if r.ContentLength > maxBody {
		return nil, tooLarge // before it is sent, where the client waits to be told (RFC 9110 §10.1.1)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, is := errors.AsType[*http.MaxBytesError](err); is {
		return nil, tooLarge
	}
	if err != nil {
		return nil, fault.InvalidField("body", "json", "the body could not be read")
	}
	return body, nil
}

// readObject reads a body that must be one JSON object. With optional, an empty
// body is an empty object.
func readObject(w http.ResponseWriter, r *http.Request, optional bool, mediaTypes ...string) (*object, error) {
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	if optional && len(body) == 0 {
		return &object{}, nil
	}
	if err := wantMedia(r, append(mediaTypes, "application/json")...); err != nil {
		return nil, err
	}
	return parseObject("body", body)
}

// wantMedia fails with UNSUPPORTED_MEDIA_TYPE where the body is of another type.
func wantMedia(r *http.Request, mediaTypes ...string) error {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(mediaTypes, mediaType) {
		return fault.New(fault.UnsupportedMedia, fault.CodeUnsupportedMedia, "Content-Type must be "+strings.Join(mediaTypes, " or "))
	}
	return nil
}

// parseObject reads a text that must be one JSON object; what names the text.
func parseObject(what string, text []byte) (*object, error) {
	if err := scanJSON(what, text); err != nil {
		return nil, err
	}
	o := &object{raw: text}
	if err := json.Unmarshal(text, &o.members); err != nil || o.members == nil {
		return nil, fault.InvalidField(what, "type", "the "+what+" must be a JSON object")
	}
	return o, nil
}

// scanJSON refuses what parsers disagree on or stumble over: repeated names, more
// than one value, deep nesting, NUL characters, text that is not UTF-8.
func scanJSON(what string, text []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(text))
	for values := 0; ; {
		token, err := d.ReadToken()
		if errors.Is(err, io.EOF) && values == 1 {
			return nil
		}
		if err != nil {
			return jsonError(what, d, err)
		}
		if d.StackDepth() > maxDepth {
			return fault.InvalidField(what, "depth", "the "+what+" must be nested at most 16 levels deep")
		}
		if token.Kind() == '"' && strings.ContainsRune(token.String(), 0) {
			return fault.InvalidField(fieldOf(what, d, d.StackPointer()), "format", "text must not hold NUL characters")
		}
		if d.StackDepth() == 0 {
			if values++; values > 1 {
				return fault.InvalidField(what, "json", "the "+what+" must hold one JSON value and nothing after it")
			}
		}
	}
}

func jsonError(what string, d *jsontext.Decoder, err error) error {
	syntactic, ok := errors.AsType[*jsontext.SyntacticError](err)
	if ok && errors.Is(err, jsontext.ErrDuplicateName) {
		name := fieldOf(what, d, syntactic.JSONPointer)
		return fault.InvalidField(name, "duplicate", name+" stands in the "+what+" more than once")
	}
	if ok {
		return fault.InvalidField(what, "json", "the "+what+" is not valid JSON at byte "+strconv.FormatInt(syntactic.ByteOffset, 10))
	}
	return fault.InvalidField(what, "json", "the "+what+" is not valid JSON")
}

// fieldOf names the field a JSON pointer leads to as every other error does:
// members after a dot, indexes in brackets, and the text itself where it leads to no
// field. d has read as far as the pointer.
func fieldOf(what string, d *jsontext.Decoder, p jsontext.Pointer) string {
	var name strings.Builder
	level := 0
	for token := range p.Tokens() {
		level++
		kind := jsontext.Kind('{')
		if level <= d.StackDepth() {
			kind, _ = d.StackIndex(level)
		}
		switch {
		case kind == '[':
			name.WriteString("[" + token + "]")
		case name.Len() > 0:
			name.WriteString("." + token)
		default:
			name.WriteString(token)
		}
	}
	if name.Len() == 0 {
		return what
	}
	return name.String()
}

// member gives a field that is there.
func (o *object) member(name string) (json.RawMessage, bool) {
	o.known = append(o.known, name)
	raw, ok := o.members[name]
	return raw, ok
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

// read decodes a field into a value of its type; nil where it is absent or wrong.
func read[T any](o *object, name, what string) *T {
	raw, ok := o.member(name)
	if !ok {
		return nil
	}
	var value T
	if isNull(raw) || json.Unmarshal(raw, &value) != nil {
		o.wrong(name, "type", "must be "+what)
		return nil
	}
	return &value
}

// nullable is read for a field that may be null: the outer pointer tells whether
// it is there, the inner whether it is null.
func nullable[T any](o *object, name, what string) **T {
	raw, ok := o.member(name)
	if !ok {
		return nil
	}
	var value *T
	if json.Unmarshal(raw, &value) != nil {
		o.wrong(name, "type", "must be "+what+" or null")
		return nil
	}
	return &value
}

func (o *object) text(name string) *string { return read[string](o, name, "a string") }

// required reads a text that must be there.
func (o *object) required(name string) string {
	if _, ok := o.members[name]; !ok {
		o.known = append(o.known, name)
		o.wrong(name, "required", "is required")
		return ""
	}
	if s := o.text(name); s != nil {
		return *s
	}
	return ""
}

func (o *object) texts(name string) *[]string {
	raw, ok := o.member(name)
	if !ok {
		return nil
	}
	var elements []json.RawMessage
	if isNull(raw) || json.Unmarshal(raw, &elements) != nil {
		o.wrong(name, "type", "must be a list of strings")
		return nil
	}
	all := make([]string, 0, len(elements))
	for i, element := range elements {
		var s *string
		if json.Unmarshal(element, &s) != nil || s == nil {
			o.wrong(name+"["+strconv.Itoa(i)+"]", "type", "must be a string")
			return nil
		}
		all = append(all, *s)
	}
	return &all
}

func (o *object) limit(name string) **int64 { return nullable[int64](o, name, "a whole number") }

// moment reads a time that may be null.
func (o *object) moment(name string) time.Time {
	text := nullable[string](o, name, "an RFC 3339 time")
	if text == nil || *text == nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, **text)
	if err != nil {
		o.wrong(name, "format", "must be an RFC 3339 time")
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// readOnly refuses fields that exist and cannot be set.
func (o *object) readOnly(names ...string) {
	for _, name := range names {
		if _, ok := o.member(name); ok {
			o.wrong(name, "readOnly", "cannot be changed here")
		}
	}
}

// unknown refuses fields that nobody asked for.
func (o *object) unknown() {
	names := make([]string, 0, len(o.members))
	for name := range o.members {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !slices.Contains(o.known, name) {
			o.known = append(o.known, name)
			o.wrong(name, "unknown", "is not a field of this request")
		}
	}
}
