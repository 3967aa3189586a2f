package app

import (
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/api"
	"git.sentryagent.ai/sentryagent-idp/internal/httpd"
	"git.sentryagent.ai/sentryagent-idp/internal/oauth"

	"github.com/getkin/kin-openapi/openapi3"

	"git.sentryagent.ai/sentryagent-idp/docs"
)

// TestTheContractAndTheRoutesAreTheSame holds what is mounted against
// docs/openapi.yaml, both ways (R11).
func TestTheContractAndTheRoutesAreTheSame(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(docs.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	mounted := map[string]bool{}
	for _, r := range routes(oauth.New(oauth.Config{}), api.New(api.Config{}), httpd.NewHealth("")) {
		// A template of the contract cannot say that a parameter may hold slashes.
		r.Path = strings.Replace(r.Path, "...}", "}", 1)
		mounted[r.Method+" "+r.Path] = true
		item := doc.Paths.Value(r.Path)
		if item == nil || item.GetOperation(r.Method) == nil {
			t.Errorf("%s %s is mounted and not in the contract", r.Method, r.Path)
		}
	}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if !mounted[method+" "+path] {
				t.Errorf("%s %s is in the contract and not mounted", method, path)
			}
			if operation.Summary == "" || operation.Description == "" || operation.OperationID == "" {
				t.Errorf("%s %s lacks a summary, a description or an id", method, path)
			}
		}
	}
}
