package agent_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

func TestARegisteredAgentIsActiveAndHasItsFirstCredential(t *testing.T) { // (R1, R3)
	w := newWorld(t)
	d := draft()
	d.Email, d.Capabilities = "Screener@ACME.example", []string{"z:z", "a:a"}
	a, issued, err := w.service.Create(t.Context(), w.by, w.org, d)
	if err != nil {
		t.Fatal(err)
	}
	if a.Status != agent.Active || a.Email != "screener@acme.example" || a.Revision != 1 || a.OrganizationID != w.org ||
		string(a.Metadata) != "{}" || !slices.Equal(a.Capabilities, scope.Set{"a:a", "z:z"}) {
		t.Errorf("the new agent is %+v", a)
	}
	if !a.CreatedAt.Equal(w.micros()) || !a.UpdatedAt.Equal(a.CreatedAt) || !a.LastAuthAt.IsZero() {
		t.Errorf("created %v, updated %v, authenticated %v", a.CreatedAt, a.UpdatedAt, a.LastAuthAt)
	}
	if issued.AgentID != a.ID || issued.OrganizationID != w.org || issued.Status(w.at) != credential.Active || issued.Secret.Value().IsZero() {
		t.Errorf("the first credential is %+v", issued.Credential)
	}
	if len(w.store.events) != 2 || w.store.events[0].Action != audit.AgentCreated || w.store.events[1].Action != audit.CredentialCreated {
		t.Errorf("the events are %+v", w.store.events)
	}
	if _, _, err := w.service.Create(t.Context(), w.by, w.org, d); !fault.Is(err, fault.CodeAgentExists) {
		t.Errorf("the same agent again: %v", err)
	}
}

func TestAnInvalidAgentIsNotRegistered(t *testing.T) {
	w := newWorld(t)
	d := draft()
	d.Email = "nobody"
	if _, _, err := w.service.Create(t.Context(), w.by, w.org, d); !fault.Is(err, fault.CodeValidation) || len(w.store.agents)+len(w.store.events) != 0 {
		t.Errorf("got %v, and %d agents", err, len(w.store.agents))
	}
}

func TestNobodyGrantsAManagementCapabilityTheyLack(t *testing.T) { // (R36)
	for _, c := range []struct {
		name         string
		home         bool // in the operator's organization
		caller       []string
		had          []string
		capabilities []string
		want         fault.Code // empty where it may be
	}{
		{"ordinary ones", false, []string{scope.AgentsWrite}, []string{"a:b"}, []string{"a:b", "c:d"}, ""},
		{"one the caller has", false, []string{scope.AgentsWrite}, []string{"a:b"}, []string{scope.AgentsWrite}, ""},
		{"one the caller lacks", false, []string{scope.AgentsWrite}, []string{"a:b"}, []string{"a:b", scope.AuditRead}, fault.CodeInsufficientScope},
		{"organizations:admin at home", true, []string{scope.OrganizationsAdmin}, []string{"a:b"}, []string{scope.OrganizationsAdmin}, ""},
		{"organizations:admin at home by another", true, []string{scope.AgentsWrite}, []string{"a:b"}, []string{scope.OrganizationsAdmin}, fault.CodeInsufficientScope},
		{"organizations:admin elsewhere", false, scope.Management(), []string{"a:b"}, []string{scope.OrganizationsAdmin}, fault.CodeValidation},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			if c.home {
				w.org = organization.DefaultID()
			}
			d := draft()
			d.Capabilities = c.had
			id := w.create(d).ID
			w.by.Scopes = scope.New(c.caller...)
			_, updating := w.update(id, agent.Patch{Capabilities: &c.capabilities})
			d.Email, d.Capabilities = "second@acme.example", c.capabilities
			_, _, creating := w.service.Create(t.Context(), w.by, w.org, d)
			for does, err := range map[string]error{"Update": updating, "Create": creating} {
				if c.want == "" && err != nil || c.want != "" && !fault.Is(err, c.want) {
					t.Errorf("%s gave %v, want %q", does, err, c.want)
				}
			}
			if c.want != "" && (len(w.store.agents) != 1 || !slices.Equal(w.get(id).Capabilities, c.had)) {
				t.Error("what was refused was done")
			}
		})
	}
}

func TestAWeakerCallerMayChangeAStrongAgentButNotAddToIt(t *testing.T) { // (R36)
	w := newWorld(t)
	w.by.Scopes = scope.New(scope.AgentsWrite, scope.AuditRead)
	d := draft()
	d.Capabilities = []string{scope.AuditRead, "a:b"}
	id := w.create(d).ID
	w.by.Scopes = scope.New(scope.AgentsWrite)
	if _, err := w.update(id, agent.Patch{Owner: new("another team"), Capabilities: &[]string{scope.AuditRead}}); err != nil {
		t.Errorf("keeping what it had: %v", err)
	}
	if _, err := w.update(id, agent.Patch{Capabilities: &[]string{"a:b"}}); err != nil {
		t.Errorf("taking it away: %v", err)
	}
	if _, err := w.update(id, agent.Patch{Capabilities: &[]string{scope.AuditRead}}); !fault.Is(err, fault.CodeInsufficientScope) {
		t.Errorf("giving it back: %v", err)
	}
}

func TestAPatchChangesWhatItNamesAlone(t *testing.T) { // (R27)
	w := newWorld(t)
	d := draft()
	d.Metadata, d.TokenTTL = json.RawMessage(`{"team":"a","tier":1}`), 10*time.Minute
	before := w.create(d)
	w.at = w.at.Add(time.Minute)
	for _, c := range []struct {
		name  string
		patch agent.Patch
		apply func(*agent.Agent)
	}{
		{"agentType", agent.Patch{Type: new("ranker")}, func(a *agent.Agent) { a.Type = "ranker" }},
		{"version", agent.Patch{Version: new("2.0.0")}, func(a *agent.Agent) { a.Version = "2.0.0" }},
		{"owner", agent.Patch{Owner: new("b")}, func(a *agent.Agent) { a.Owner = "b" }},
		{"deploymentEnv", agent.Patch{DeploymentEnv: new("staging")}, func(a *agent.Agent) { a.DeploymentEnv = "staging" }},
		{"capabilities", agent.Patch{Capabilities: &[]string{"z:z", "a:a"}}, func(a *agent.Agent) { a.Capabilities = scope.New("a:a", "z:z") }},
		{"tokenTtlSeconds", agent.Patch{TokenTTL: new(time.Duration(0))}, func(a *agent.Agent) { a.TokenTTL = 0 }},
		{"metadata", agent.Patch{Metadata: json.RawMessage(`{"tier":null,"x":2}`)}, func(a *agent.Agent) { a.Metadata = json.RawMessage(`{"team":"a","x":2}`) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := w.get(before.ID)
			c.apply(&want)
			want.Revision++
			want.UpdatedAt = w.micros()
			got, err := w.update(before.ID, c.patch)
			if err != nil {
				t.Fatal(err)
			}
			gotJSON, _ := json.Marshal(got)
			if wantJSON, _ := json.Marshal(want); string(gotJSON) != string(wantJSON) {
				t.Errorf("got  %s\nwant %s", gotJSON, wantJSON)
			}
			if changed, _ := w.lastDetails()["changed"].([]any); len(changed) != 1 || changed[0] != c.name {
				t.Errorf("the event says that %v changed", changed)
			}
		})
	}
}

func TestAPatchThatChangesNothingWritesNothing(t *testing.T) {
	w := newWorld(t)
	a := w.create(draft())
	events := len(w.store.events)
	w.at = w.at.Add(time.Hour)
	for name, p := range map[string]agent.Patch{
		"empty": {},
		"the same values": {
			Type: &a.Type, Version: &a.Version, Owner: &a.Owner, DeploymentEnv: &a.DeploymentEnv, TokenTTL: &a.TokenTTL,
			Capabilities: new([]string(a.Capabilities)), Metadata: json.RawMessage("{}"), IfRevision: []int64{7, a.Revision},
		},
		"metadata of null where there is none": {Metadata: json.RawMessage("null")},
		"a member away that is not there":      {Metadata: json.RawMessage(`{"a":null}`)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := w.update(a.ID, p)
			if err != nil || got.Revision != a.Revision || !got.UpdatedAt.Equal(a.UpdatedAt) || len(w.store.events) != events {
				t.Errorf("revision %d, updated %v, %d events, %v", got.Revision, got.UpdatedAt, len(w.store.events)-events, err)
			}
		})
	}
}

func TestTheSameInOtherWordsIsNoChange(t *testing.T) {
	w := newWorld(t)
	d := draft()
	d.Capabilities, d.Metadata = []string{"b:b", "a:a"}, json.RawMessage(" {\"q\": \"<&>\",\n\"a\": 1}")
	id := w.create(d).ID
	for name, stored := range map[string]string{
		"as it was registered":  string(w.get(id).Metadata),
		"as it was stored once": ` {"q": "\u003c&>", "a": 1}`,
	} {
		w.store.agents[0].Metadata = json.RawMessage(stored)
		for _, patch := range []agent.Patch{
			{Capabilities: &[]string{"b:b", "a:a"}},
			{Metadata: json.RawMessage("{}")},
			{Metadata: json.RawMessage(`{ "q":"\u003c\u0026\u003e", "b":null }`)},
		} {
			if got, err := w.update(id, patch); err != nil || got.Revision != 1 {
				t.Errorf("%s: %s %v made revision %d, %v", name, patch.Metadata, patch.Capabilities, got.Revision, err)
			}
		}
	}
	if _, err := w.update(id, agent.Patch{Capabilities: &[]string{"a:a", "b:b", "a:a"}}); !fault.Is(err, fault.CodeValidation) {
		t.Errorf("a repeated capability gave %v, want VALIDATION_ERROR", err)
	}
}

func TestAPatchLeavesTheOtherMetadataAsItIs(t *testing.T) {
	for name, c := range map[string]struct{ registered, want string }{
		"outer space":                {` {"a":1}`, `{"a":1,"z":true}`},
		"signs that HTML knows":      {`{"a":"` + strings.Repeat("<&>", 5000) + `"}`, `{"a":"` + strings.Repeat("<&>", 5000) + `","z":true}`},
		"more digits than a float's": {`{"a":0.12345678901234567890}`, `{"a":0.12345678901234567890,"z":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := draft()
			d.Metadata = json.RawMessage(c.registered)
			got, err := w.update(w.create(d).ID, agent.Patch{Metadata: json.RawMessage(`{"z":true}`)})
			if err != nil || string(got.Metadata) != c.want {
				t.Errorf("got %.80s, %v", got.Metadata, err)
			}
		})
	}
}

func TestARefusedPatchLeavesTheAgentAsItWas(t *testing.T) {
	for _, c := range []struct {
		name   string
		status agent.Status
		patch  agent.Patch
		want   fault.Code
	}{
		{"a stale revision", agent.Active, agent.Patch{Owner: new("b"), IfRevision: []int64{7}}, fault.CodePreconditionFailed},
		{"a stale revision and no change", agent.Active, agent.Patch{IfRevision: []int64{7}}, fault.CodePreconditionFailed},
		{"revoked", agent.Revoked, agent.Patch{Owner: new("b")}, fault.CodeConflict},
		{"archived", agent.Archived, agent.Patch{Owner: new("b")}, fault.CodeConflict},
		{"an invalid value", agent.Active, agent.Patch{Owner: new("b"), Version: new("latest")}, fault.CodeValidation},
		{"no capability left", agent.Active, agent.Patch{Capabilities: &[]string{}}, fault.CodeValidation},
		{"metadata that is no object", agent.Active, agent.Patch{Metadata: json.RawMessage("[]")}, fault.CodeValidation},
		{"metadata that is not JSON", agent.Active, agent.Patch{Metadata: json.RawMessage(`{"a":`)}, fault.CodeValidation},
		{"too long a lifetime", agent.Active, agent.Patch{TokenTTL: new(maxTTL + time.Second)}, fault.CodeValidation},
		{"an invalid value and a stale revision", agent.Active, agent.Patch{Version: new("latest"), IfRevision: []int64{7}}, fault.CodeValidation},
		{"an invalid value of what has ended", agent.Revoked, agent.Patch{Version: new("latest")}, fault.CodeValidation},
		{"a capability that the caller lacks, and a stale revision", agent.Active, agent.Patch{Capabilities: &[]string{scope.AuditRead}, IfRevision: []int64{7}}, fault.CodeInsufficientScope},
		{"too much metadata", agent.Active, agent.Patch{Metadata: json.RawMessage(`{"a":"` + strings.Repeat("x", agent.MaxMetadata) + `"}`)}, fault.CodeValidation},
		{"metadata nested too deep", agent.Active, agent.Patch{Metadata: json.RawMessage(strings.Repeat(`{"a":`, 9) + "1" + strings.Repeat("}", 9))}, fault.CodeValidation},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			id := w.withStatus(c.status)
			before, events := w.get(id), len(w.store.events)
			if _, err := w.update(id, c.patch); !fault.Is(err, c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if after := w.get(id); after.Owner != before.Owner || after.Revision != before.Revision || len(w.store.events) != events {
				t.Errorf("the agent became %+v", after)
			}
		})
	}
	t.Run("a suspended agent may be changed", func(t *testing.T) {
		w := newWorld(t)
		id := w.withStatus(agent.Suspended)
		if a, err := w.update(id, agent.Patch{Owner: new("b"), IfRevision: []int64{2}}); err != nil || a.Owner != "b" || a.Status != agent.Suspended {
			t.Errorf("got %+v, %v", a, err)
		}
	})
}

func TestAPatchOfAnUnknownAgentIsCheckedFirst(t *testing.T) { // (R32)
	w := newWorld(t)
	_, err := w.update(uuid.New(), agent.Patch{
		Type: new("Upper"), Version: new("latest"), Capabilities: &[]string{"*", scope.OrganizationsAdmin}, Owner: new(" a"), DeploymentEnv: new("moon"),
		Metadata: json.RawMessage("[]"), TokenTTL: new(time.Second),
	})
	if !fault.Is(err, fault.CodeValidation) {
		t.Fatalf("got %v, want VALIDATION_ERROR", err)
	}
	var named []string
	for _, f := range fault.As(err).Fields {
		named = append(named, f.Field)
	}
	want := []string{"agentType", "version", "capabilities[0]", "capabilities", "owner", "deploymentEnv", "metadata", "tokenTtlSeconds"}
	if !slices.Equal(named, want) {
		t.Errorf("%v are named, want %v", named, want)
	}
}

func TestMetadataThatGrowsTooLargeIsRefused(t *testing.T) {
	w := newWorld(t)
	d := draft()
	d.Metadata = json.RawMessage(`{"a":"` + strings.Repeat("x", 12<<10) + `"}`)
	_, err := w.update(w.create(d).ID, agent.Patch{Metadata: json.RawMessage(`{"b":"` + strings.Repeat("x", 12<<10) + `"}`)})
	wantField(t, err, "metadata", "size")
}

func TestALifetimeThatIsNoLongerAllowedHindersNoOtherChange(t *testing.T) {
	w := newWorld(t)
	id := w.create(draft()).ID
	w.store.agents[0].TokenTTL = 2 * maxTTL // as it was registered when more was allowed
	if a, err := w.update(id, agent.Patch{Owner: new("b")}); err != nil || a.Owner != "b" || a.TokenTTL != 2*maxTTL {
		t.Errorf("changing the owner: %v", err)
	}
	_, err := w.update(id, agent.Patch{TokenTTL: new(2 * maxTTL)})
	wantField(t, err, "tokenTtlSeconds", "maximum")
}

func TestAnEmailIsFoundInWhateverCase(t *testing.T) {
	w := newWorld(t)
	w.create(draft())
	found, err := w.service.List(t.Context(), uuid.Nil, agent.Filter{Email: "Screener@Acme.Example", Owner: "X"}, page.Query{})
	if err != nil || len(found.Items) != 1 || w.store.filter != (agent.Filter{Email: "screener@acme.example", Owner: "X"}) {
		t.Errorf("the store was asked for %+v: %v", w.store.filter, err)
	}
}
