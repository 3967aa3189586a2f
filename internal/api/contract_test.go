package api_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// contract is shared by the tests of this package, so that what all of them saw
// together can be held against it.
var contract *apptest.Contract

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if contract, err = apptest.LoadContract(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	whole := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.fuzz").Value.String() == ""
	if missing := contract.Unseen(); code == 0 && whole && len(missing) > 0 {
		fmt.Fprintf(os.Stderr, "no test saw these operations and statuses of docs/openapi.yaml (R11):\n  %s\n", strings.Join(missing, "\n  "))
		code = 1
	}
	os.Exit(code)
}

// TestScripts runs the HTTP scripts, which are the documentation of what is
// refused, and of what is not.
func TestScripts(t *testing.T) { apptest.Scripts(t, contract, "testdata") }

// operation is one of the contract's, with a request that keeps its rules.
type operation struct {
	method, path, scope string
	spec                *openapi3.Operation
	mediaType           string
	schema              *openapi3.Schema
	body                any
	lines               bool // the body is lines, each of which may fail alone
}

// operations lists the contract's operations that take or need anything.
func operations(t *testing.T) []operation {
	t.Helper()
	var all []operation
	for path, item := range contract.Doc.Paths.Map() {
		for method, spec := range item.Operations() {
			o := operation{method: method, path: path, spec: spec}
			for _, requirement := range *spec.Security {
				if scopes := requirement["agentToken"]; len(scopes) > 0 {
					o.scope = scopes[len(scopes)-1]
				}
			}
			if spec.RequestBody != nil {
				for mediaType, content := range spec.RequestBody.Value.Content {
					o.mediaType, o.schema = mediaType, content.Schema.Value
					for _, example := range content.Examples {
						o.body = example.Value.Value
					}
				}
				if schema := contract.LineSchema(spec.RequestBody.Value.Content); schema != nil {
					text, _ := o.body.(string)
					lines, err := apptest.Lines([]byte(text))
					if err != nil {
						t.Fatalf("%s: the example: %v", path, err)
					}
					o.schema, o.body, o.lines = schema, lines[0], true
				}
			}
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return all
}

// world is a server with an agent to try operations on.
type world struct {
	*apptest.Server
	t      *testing.T
	admin  string
	target apptest.Agent
	// reporter signs reports of leaks.
	reporter *reporter
	// revocation is one that matched nobody.
	revocation string
}

func newWorld(t *testing.T, settings ...string) *world {
	t.Helper()
	r := newReporter(t)
	s := apptest.Start(t, contract, append(settings, "LEAK_REPORT_KEYS_FILE="+r.file)...)
	admin := s.Admin()
	w := &world{Server: s, t: t, admin: admin, reporter: r, target: s.Register(admin, "target", "", "invoices:read")}
	made := s.Call(http.MethodPost, "/revocations", admin, `{"selector": {"owner": "nobody"}, "action": "tokens"}`)
	w.revocation, _ = made.JSON(t)["id"].(string)
	return w
}

// fill puts real ids in a path.
func (w *world) fill(path string) string {
	return strings.NewReplacer("{agentId}", w.target.ID, "{credentialId}", w.target.CredentialID,
		"{organizationId}", "00000000-0000-4000-8000-000000000001", "{revocationId}", w.revocation, "{eventId}", "019b7e2c-9a10-7c3e-8d21-5b6f0a4c1e77", "{asset}", "init.js", "{agentType}", "invoice-reader",
		"{level}", "0", "{index}", "000.p/1").Replace(path)
}

// send sends an operation with a body, or its own where body is nil.
func (w *world) send(o operation, bearer string, change func(r *http.Request), body any) apptest.Answer {
	w.t.Helper()
	if body == nil {
		body = o.body
	}
	content := ""
	switch text, isText := body.(string); {
	case o.mediaType == "application/x-ndjson" && isText:
		content = text
	case o.mediaType == "application/x-www-form-urlencoded":
		content = encodeForm(body).Encode()
	case o.mediaType != "":
		encoded, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		content = string(encoded)
	}
	r, err := http.NewRequestWithContext(context.Background(), o.method, w.URL+w.fill(o.path), strings.NewReader(content))
	if err != nil {
		w.t.Fatal(err)
	}
	if o.mediaType != "" {
		r.Header.Set("Content-Type", o.mediaType)
	}
	if o.path == "/secrets/leaked" {
		w.reporter.sign(r, content)
	}
	if o.spec != nil {
		r.URL.RawQuery = required(o.spec).Encode()
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	if change != nil {
		change(r)
	}
	return w.Do(r)
}

// required gives the query without which an operation is refused.
func required(spec *openapi3.Operation) url.Values {
	query := url.Values{}
	for _, p := range spec.Parameters {
		if p.Value.In == openapi3.ParameterInQuery && p.Value.Required {
			query.Set(p.Value.Name, fmt.Sprint(p.Value.Example))
		}
	}
	return query
}

func encodeForm(body any) url.Values {
	form := url.Values{}
	object, _ := body.(map[string]any)
	for name, value := range object {
		switch v := value.(type) {
		case string:
			form.Set(name, v)
		case []any:
			for _, element := range v {
				form.Add(name, fmt.Sprint(element))
			}
		}
	}
	return form
}

// TestEveryOperationRefusesAlike sends every operation what every operation must
// refuse: no token, one that lacks the scope, a body too large or of another type.
func TestEveryOperationRefusesAlike(t *testing.T) {
	w := newWorld(t)
	weak := w.Register(w.admin, "weak", "", "agents:read", "audit:read")
	reader, auditor := w.Token(weak.ID, weak.Secret, "agents:read"), w.Token(weak.ID, weak.Secret, "audit:read")
	for _, o := range operations(t) {
		refused := func(what string, want int, got apptest.Answer) {
			if got.Status != want {
				t.Errorf("%s %s with %s: %d %s, want %d", o.method, o.path, what, got.Status, got.Body, want)
			}
		}
		if o.scope != "" {
			refused("no token", http.StatusUnauthorized, w.send(o, "", nil, nil))
			refused("a token that is none", http.StatusUnauthorized, w.send(o, "x.y.z", nil, nil))
			lacking := reader
			if o.scope == "agents:read" {
				lacking = auditor
			}
			refused("a token without "+o.scope, http.StatusForbidden, w.send(o, lacking, nil, nil))
		}
		if o.mediaType != "" {
			refused("another media type", http.StatusUnsupportedMediaType,
				w.send(o, w.admin, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, "x"))
		}
		if o.mediaType != "" && !o.lines {
			refused("a large body", http.StatusRequestEntityTooLarge, w.send(o, w.admin, nil, map[string]any{"reason": strings.Repeat("x", 70<<10)}))
		}
	}
}

// TestWithoutTheDatabaseEveryOperationSaysSo takes the database away: 503, and
// never an answer that would have to stand in the record.
func TestWithoutTheDatabaseEveryOperationSaysSo(t *testing.T) {
	w := newWorld(t)
	id, secret := w.target.ID, w.target.Secret
	w.Token(id, secret, "") // remembered, so that only the record is missing
	if err := w.App.Close(); err != nil {
		t.Fatal(err)
	}
	for _, o := range operations(t) {
		if o.spec.Responses.Status(http.StatusServiceUnavailable) == nil {
			continue
		}
		got := w.send(o, w.admin, func(r *http.Request) {
			if secretAlone(o) {
				r.SetBasicAuth(id, secret)
			}
		}, without(o.body, "client_id", "client_secret"))
		if got.Status != http.StatusServiceUnavailable {
			t.Errorf("%s %s without a database: %d %s", o.method, o.path, got.Status, got.Body)
		}
		if !strings.HasPrefix(o.path, "/health") && got.Header.Get("Retry-After") == "" {
			t.Errorf("%s %s does not say when to try again", o.method, o.path)
		}
	}
	if got := w.Call(http.MethodGet, "/health/live", "", ""); got.Status != http.StatusOK {
		t.Errorf("/health/live: %d", got.Status)
	}
}

func without(body any, names ...string) any {
	object, ok := body.(map[string]any)
	if !ok {
		return body
	}
	left := map[string]any{}
	for name, value := range object {
		if !slices.Contains(names, name) {
			left[name] = value
		}
	}
	return left
}

// TestOverTheLimitEveryOperationSaysSo uses up what one address may ask (R38).
func TestOverTheLimitEveryOperationSaysSo(t *testing.T) {
	w := newWorld(t, "RATE_LIMIT=on", "RATE_LIMIT_SOURCE=20")
	for range 20 {
		w.Call(http.MethodGet, "/.well-known/jwks.json", "", "")
	}
	for _, o := range operations(t) {
		got := w.send(o, w.admin, nil, nil)
		if strings.HasPrefix(o.path, "/health") {
			if got.Status != http.StatusOK {
				t.Errorf("%s is limited: %d", o.path, got.Status)
			}
			continue
		}
		if got.Status != http.StatusTooManyRequests || got.Header.Get("Retry-After") == "" || got.Header.Get("RateLimit") == "" {
			t.Errorf("%s %s over the limit: %d, Retry-After %q, RateLimit %q", o.method, o.path, got.Status, got.Header.Get("Retry-After"), got.Header.Get("RateLimit"))
		}
	}
}
