package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// TestEveryRuleOfTheContractIsKept breaks each rule of each operation once: the
// server must refuse the request, and nothing may have changed (R11).
func TestEveryRuleOfTheContractIsKept(t *testing.T) {
	w := newWorld(t)
	broken := 0
	for _, o := range operations(t) {
		if got := w.send(o, w.admin, basic(w, o), without(o.body, "client_id", "client_secret")); got.Status == http.StatusBadRequest && o.mediaType == "application/json" {
			t.Errorf("%s %s: its own example is refused: %s", o.method, o.path, got.Body)
		}
	}
	w.revive()
	before := w.state()
	for _, o := range operations(t) {
		if o.mediaType != "" {
			body := without(o.body, "client_id", "client_secret")
			for _, m := range apptest.Mutants(o.schema, body) {
				if o.mediaType == "application/x-www-form-urlencoded" && !inForm(m) {
					continue
				}
				broken++
				if m.Value == nil {
					m.Value = json.RawMessage("null")
				}
				w.mustRefuse(o, m.Rule, w.send(o, w.admin, basic(w, o), m.Value))
			}
		}
		for _, p := range o.spec.Parameters {
			for _, m := range parameterMutants(p.Value) {
				broken++
				got := w.send(o, w.admin, func(r *http.Request) { put(w, r, o, p.Value, m.Value) }, nil)
				w.mustRefuse(o, p.Value.Name+": "+m.Rule, got)
			}
		}
		if o.scope != "" && !strings.HasPrefix(o.path, "/oauth2") {
			broken++
			w.mustRefuse(o, "unknown parameter", w.send(o, w.admin, func(r *http.Request) { r.URL.RawQuery = "unexpected=1" }, nil))
		}
	}
	if after := w.state(); after != before {
		t.Errorf("a refused request changed something:\nbefore %s\nafter  %s", before, after)
	}
	t.Logf("%d broken rules, all refused", broken)
}

func (w *world) mustRefuse(o operation, rule string, got apptest.Answer) {
	w.t.Helper()
	if o.lines && got.Status == http.StatusOK {
		w.mustFail(o, rule, got)
		return
	}
	if got.Status != http.StatusBadRequest {
		w.t.Errorf("%s %s, %s: %d %.300s, want 400", o.method, o.path, rule, got.Status, got.Body)
		return
	}
	if strings.HasPrefix(o.path, "/oauth2") {
		return
	}
	var body struct {
		Code    string
		Details struct {
			Fields []struct{ Field, Rule, Message string }
		}
	}
	if err := json.Unmarshal(got.Body, &body); err != nil || body.Code != "VALIDATION_ERROR" || len(body.Details.Fields) == 0 || body.Details.Fields[0].Field == "" {
		w.t.Errorf("%s %s, %s: the answer names no field: %s", o.method, o.path, rule, got.Body)
	}
}

// mustFail is mustRefuse for a line of many.
func (w *world) mustFail(o operation, rule string, got apptest.Answer) {
	w.t.Helper()
	var line struct {
		Result string
		Error  struct {
			Code    string
			Details struct {
				Fields []struct{ Field, Rule, Message string }
			}
		}
	}
	if err := json.Unmarshal(got.Body, &line); err != nil || line.Result != "failed" || line.Error.Code != "VALIDATION_ERROR" ||
		len(line.Error.Details.Fields) == 0 || line.Error.Details.Fields[0].Field == "" {
		w.t.Errorf("%s %s, %s: the line did not fail, or the answer names no field: %s", o.method, o.path, rule, got.Body)
	}
}

// revive makes a fresh target, as the examples have archived the first.
func (w *world) revive() { w.target = w.Register(w.admin, "second", "", "invoices:read") }

// state is what a refused request must not change: the last event, and the agent.
func (w *world) state() string {
	w.t.Helper()
	var events struct{ Items []struct{ Sequence int64 } }
	got := w.Call(http.MethodGet, "/audit/events?limit=1", w.admin, "")
	if err := json.Unmarshal(got.Body, &events); err != nil || len(events.Items) != 1 {
		w.t.Fatalf("reading the last event: %s", got.Body)
	}
	agent := w.Call(http.MethodGet, "/agents/"+w.target.ID, w.admin, "")
	return fmt.Sprintf("event %d, agent %s", events.Items[0].Sequence, agent.Body)
}

// secretAlone reports whether an operation takes a client's secret and no bearer token.
func secretAlone(o operation) bool { return o.path == "/oauth2/token" || o.path == "/oauth2/rotate" }

// basic authenticates the operations that take no bearer token.
func basic(w *world, o operation) func(r *http.Request) {
	if !secretAlone(o) {
		return nil
	}
	return func(r *http.Request) { r.SetBasicAuth(w.target.ID, w.target.Secret) }
}

// inForm reports whether a mutant can be said in a form, where all is text.
func inForm(m apptest.Mutant) bool {
	object, ok := m.Value.(map[string]any)
	if !ok || strings.Contains(m.Rule, "token_type_hint") || strings.Contains(m.Rule, "client_") {
		return false
	}
	return !strings.Contains(m.Rule, ": type") && !strings.Contains(m.Rule, "nullable") && object != nil
}

func parameterMutants(p *openapi3.Parameter) []apptest.Mutant {
	if p.In == openapi3.ParameterInHeader || p.Name == "asset" {
		return nil
	}
	var all []apptest.Mutant
	for _, m := range apptest.Mutants(p.Schema.Value, p.Example) {
		number, isNumber := m.Value.(json.Number)
		text, isText := m.Value.(string)
		switch {
		case isNumber && p.Schema.Value.Type.Is("integer"):
			all = append(all, apptest.Mutant{Rule: m.Rule, Value: number.String()})
		case isText && (p.In == openapi3.ParameterInQuery || text != ""):
			all = append(all, apptest.Mutant{Rule: m.Rule, Value: text})
		}
	}
	if p.In == openapi3.ParameterInQuery {
		all = append(all, apptest.Mutant{Rule: "repeated", Value: []string{"1", "2"}})
	}
	return all
}

// put puts a parameter's value where it belongs.
func put(w *world, r *http.Request, o operation, p *openapi3.Parameter, value any) {
	text, _ := value.(string)
	if p.In == openapi3.ParameterInPath {
		path := w.fill(strings.Replace(o.path, "{"+p.Name+"}", "\x00", 1))
		r.URL.Path = strings.Replace(path, "\x00", text, 1)
		r.URL.RawPath = strings.Replace(path, "\x00", url.PathEscape(text), 1)
		return
	}
	query := r.URL.Query()
	if many, ok := value.([]string); ok {
		query[p.Name] = many
	} else {
		query.Set(p.Name, text)
	}
	r.URL.RawQuery = query.Encode()
}
