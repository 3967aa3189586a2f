package apptest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"git.sentryagent.ai/sentryagent-idp/docs"
)

// Contract holds exchanges against docs/openapi.yaml and remembers what it saw.
type Contract struct {
	Doc    *openapi3.T
	router routers.Router

	mu   sync.Mutex
	seen map[string]bool
}

// LoadContract reads and checks the contract itself, its examples among it.
func LoadContract() (*Contract, error) {
	openapi3filter.RegisterBodyDecoder(ndjson, openapi3filter.FileBodyDecoder) // lines, not one value
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(docs.OpenAPI)
	if err != nil {
		return nil, fmt.Errorf("docs/openapi.yaml: %w", err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, fmt.Errorf("docs/openapi.yaml: %w", err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("docs/openapi.yaml: %w", err)
	}
	return &Contract{Doc: doc, router: router, seen: map[string]bool{}}, nil
}

// Unseen names every operation and status of the contract that no exchange
// showed. 500 is a defect, which no test can ask for.
func (c *Contract) Unseen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing []string
	for path, item := range c.Doc.Paths.Map() {
		for method, operation := range item.Operations() {
			for status := range operation.Responses.Map() {
				if key := method + " " + path + " " + status; status != "500" && !c.seen[key] {
					missing = append(missing, key)
				}
			}
		}
	}
	slices.Sort(missing)
	return missing
}

// wrap gives a transport that fails the test on every exchange that is not as
// the contract says.
func (c *Contract) wrap(t *testing.T, inner http.RoundTripper) http.RoundTripper {
	return &checked{t: t, contract: c, inner: inner}
}

type checked struct {
	t        *testing.T
	contract *Contract
	inner    http.RoundTripper
}

// RoundTrip sends the request and checks the exchange.
func (x *checked) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := x.inner.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(got))
	if err != nil {
		return nil, err
	}
	if err := x.contract.check(r, sent, resp, got); err != nil {
		x.t.Errorf("%s %s answered %d, which is not as the contract says: %v\nsent: %.300q\ngot:  %.600q", r.Method, r.URL.Path, resp.StatusCode, err, sent, got)
	}
	return resp, nil
}

// check holds one exchange against the contract. What the server accepted must
// be a request the contract allows; what it answered must be documented.
func (c *Contract) check(r *http.Request, sent []byte, resp *http.Response, got []byte) error {
	if resp.Header.Get("X-Request-Id") == "" {
		return fmt.Errorf("there is no X-Request-Id")
	}
	probe := r.Clone(r.Context())
	probe.URL.Scheme, probe.URL.Host, probe.Host = "", "", ""
	index := hideSlashes(probe.URL)
	route, params, err := c.router.FindRoute(probe)
	if params["index"] != "" {
		params["index"] = index
	}
	if err != nil {
		if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed && resp.StatusCode != http.StatusRequestEntityTooLarge && resp.StatusCode != http.StatusNoContent {
			return fmt.Errorf("it is not in the contract: %w", err)
		}
		return c.errorShape(resp, got)
	}
	if route.Operation.Responses.Status(resp.StatusCode) == nil {
		// A URL may be too long, or a method not taken, whatever it would lead to.
		if resp.StatusCode == http.StatusRequestEntityTooLarge && len(sent) == 0 || resp.StatusCode == http.StatusMethodNotAllowed {
			return c.errorShape(resp, got)
		}
		return fmt.Errorf("the status is not documented")
	}
	c.saw(r.Method, route.Path, resp.StatusCode)
	if err := c.checkLines(route.Operation, sent, resp.StatusCode, resp.Header.Get("Content-Type"), got); err != nil {
		return err
	}
	probe.Body = io.NopCloser(bytes.NewReader(sent))
	input := &openapi3filter.RequestValidationInput{
		Request: probe, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true},
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
			return fmt.Errorf("it accepted a request that the contract does not allow: %w", err)
		}
	}
	output := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: resp.StatusCode, Header: resp.Header, Options: input.Options}
	if !strings.HasPrefix(route.Path, "/api-docs") && route.Path != "/openapi.yaml" {
		output.SetBodyBytes(got)
	} else {
		output.Options.ExcludeResponseBody = true
	}
	return openapi3filter.ValidateResponse(r.Context(), output)
}

// hideSlashes makes the index of a tile one segment of the path, as a template of the
// contract cannot say that a parameter may hold slashes, and gives the index.
func hideSlashes(u *url.URL) string {
	rest, ok := strings.CutPrefix(u.Path, "/audit/tile/")
	level, index, _ := strings.Cut(rest, "/")
	if ok && index != "" {
		u.Path, u.RawPath = "/audit/tile/"+level+"/"+strings.ReplaceAll(index, "/", "_"), ""
	}
	return index
}

// errorShape checks the answers to what is no operation.
func (c *Contract) errorShape(resp *http.Response, got []byte) error {
	if resp.StatusCode == http.StatusNoContent || resp.Request != nil && resp.Request.Method == http.MethodHead {
		return nil
	}
	schema := c.Doc.Components.Schemas["Error"].Value
	var body any
	if err := json.Unmarshal(got, &body); err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	return schema.VisitJSON(body)
}

func (c *Contract) saw(method, path string, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[method+" "+path+" "+strconv.Itoa(status)] = true
}
