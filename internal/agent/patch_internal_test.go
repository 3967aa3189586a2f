package agent

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

func decoded(t *testing.T, text []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var members map[string]any
	if err := d.Decode(&members); err != nil || members == nil {
		t.Fatalf("%s is not an object: %v", text, err)
	}
	return members
}

func TestMetadataIsMergedAsTheStandardSays(t *testing.T) {
	for _, c := range []struct{ stored, patch, want string }{
		// RFC 7396 appendix A, where both are objects.
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		// RFC 7396 §3.
		{
			`{"title":"Goodbye!","author":{"givenName":"John","familyName":"Doe"},"tags":["example","sample"],"content":"x"}`,
			`{"title":"Hello!","phoneNumber":"+01-123-456-7890","author":{"familyName":null},"tags":["example"]}`,
			`{"title":"Hello!","author":{"givenName":"John"},"tags":["example"],"content":"x","phoneNumber":"+01-123-456-7890"}`,
		},
		{`{"n":12345678901234567890.10}`, `{"a":1}`, `{"n":12345678901234567890.10,"a":1}`},
		{`{"a":1}`, `{"b":[null]}`, `{"a":1,"b":[null]}`},
		{`{"a":1}`, `{}`, `{"a":1}`},
		{`{"a":1}`, ` null `, `{}`},
		{``, `{"a":1}`, `{"a":1}`},
		{" \n{\"a\":1}", `{"b":2}`, `{"a":1,"b":2}`},
	} {
		t.Run(c.stored+" and "+c.patch, func(t *testing.T) {
			got, err := mergeMetadata(json.RawMessage(c.stored), json.RawMessage(c.patch))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(decoded(t, got), decoded(t, []byte(c.want))) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestAPatchThatIsNoObjectIsRefused(t *testing.T) {
	for name, patch := range map[string]string{
		"not JSON": `{"a":`, "two objects": `{}{}`, "an array": `["c"]`, "a text": `"bar"`, "a number": `1`, "nothing": ``, "space": ` `,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := mergeMetadata(json.RawMessage(`{"a":"b"}`), json.RawMessage(patch))
			if !fault.Is(err, fault.CodeValidation) || fault.As(err).Fields[0].Field != "metadata" {
				t.Errorf("got %s and %v, want VALIDATION_ERROR of metadata", got, err)
			}
		})
	}
}

func TestMetadataIsKeptInOneForm(t *testing.T) {
	for written, want := range map[string]string{
		`{}`:                                   `{}`,
		" {\t\"b\" : [ 1 , 2 ],\n\"a\":null} ": `{"a":null,"b":[1,2]}`,
		`{"q":"<a href=\"x\">&</a>"}`:          `{"q":"<a href=\"x\">&</a>"}`,
		`{"q":"\u003c\u00e9\/"}`:               `{"q":"<é/"}`,
		`{"n":12345678901234567890.10e+1}`:     `{"n":12345678901234567890.10e+1}`,
		`{"a":1,"a":2}`:                        `{"a":2}`,
		`{"a":`:                                `{"a":`, // left to the rules
		`{}{}`:                                 `{}{}`,
		` `:                                    ` `,
	} {
		if got := normalized(json.RawMessage(written)); string(got) != want {
			t.Errorf("%s is kept as %s, want %s", written, got, want)
		}
	}
}

// nullsWherePatched reports whether a member that the patch sets is null.
func nullsWherePatched(got, patch map[string]any) bool {
	for name, change := range patch {
		value, present := got[name]
		if present && value == nil {
			return true
		}
		inner, isObject := change.(map[string]any)
		if !isObject {
			continue
		}
		if object, ok := value.(map[string]any); !ok || nullsWherePatched(object, inner) {
			return true
		}
	}
	return false
}

func FuzzMergePatch(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"a":"b"}`, `{"a":null}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`},
		{`{"a":[1]}`, `{"a":{"b":null,"c":[null]}}`},
		{`{"e":null}`, `{"a":1}`},
		{`{"a":1,"a":2}`, `{"a":{},"a":null}`},
		{`{"a":"<&>"}`, `{"b":"\u2028\ud800"}`},
		{`{"\xff":1}`, `{"\xfe":null}`},
		{`{"A":1}`, `{"a": {"x" : 1e400} }`},
		{` {"a":1}`, ` null`},
		{``, `{"":{"":""}}`},
		{`[]`, `{"a":1`},
		{`{"a":1}`, `{"a":1}}`},
		{`{"a":{"b":1}}`, `{"a":{"b":{"c":{"d":{"e":{"f":{"g":null}}}}}}}`},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, stored, patch []byte) {
		if d := bytes.TrimSpace(stored); len(stored) > 0 && (!json.Valid(stored) || d[0] != '{') {
			return // nothing else is ever stored
		}
		once, err := mergeMetadata(stored, patch)
		if err != nil {
			if !fault.Is(err, fault.CodeValidation) {
				t.Fatalf("%q gave %v", patch, err)
			}
			return
		}
		if !json.Valid(patch) {
			if json.Valid(once) {
				t.Fatalf("%q is not JSON and became %q", patch, once)
			}
			return // the agent's own rules refuse it
		}
		got := decoded(t, once)
		if string(bytes.TrimSpace(patch)) != "null" && nullsWherePatched(got, decoded(t, patch)) {
			t.Fatalf("%q patched with %q gave %q, with a null that was to be left out", stored, patch, once)
		}
		twice, err := mergeMetadata(once, patch)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q patched with %q once is %q, twice %q: %v", stored, patch, once, twice, err)
		}
	})
}
