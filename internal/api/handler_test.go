package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/api"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
)

// broken is a Verifier that has a defect.
type broken struct{}

func (broken) Caller(context.Context, string, audit.Origin) (policy.Caller, error) {
	return policy.Caller{}, errors.New("a defect")
}

// TestADefectIsNotTheCallersFault: only a token that does not hold is a 401.
func TestADefectIsNotTheCallersFault(t *testing.T) {
	for _, route := range api.New(api.Config{Verifier: broken{}}).Routes() {
		if route.Public() {
			continue // nobody is asked for a token
		}
		known := &request.Info{}
		r := httptest.NewRequestWithContext(request.With(t.Context(), known), route.Method, "/", nil)
		r.Header.Set("Authorization", "Bearer x")
		w := httptest.NewRecorder()
		route.Handler(w, r)
		if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "INTERNAL") || strings.Contains(w.Body.String(), "defect") {
			t.Errorf("%s %s: %d %s", route.Method, route.Path, w.Code, w.Body)
		}
		if line := fmt.Sprint(known.Attrs()); !strings.Contains(line, "cause=a defect") {
			t.Errorf("%s %s: the log line has no cause: %s", route.Method, route.Path, line)
		}
	}
}

// TestTheContractNamesEveryAction that can stand in the record.
func TestTheContractNamesEveryAction(t *testing.T) {
	var named []audit.Action
	for _, value := range contract.Doc.Components.Schemas["Action"].Value.Enum {
		name, _ := value.(string)
		named = append(named, audit.Action(name))
	}
	if !slices.Equal(named, audit.Actions()) {
		t.Errorf("the contract names\n%v\nthere are\n%v", named, audit.Actions())
	}
}
