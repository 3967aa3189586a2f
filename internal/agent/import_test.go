package agent_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

func line(email string) agent.Line {
	d := draft()
	d.Email = email
	return agent.Line{Draft: d}
}

func (w *world) imported(lines ...agent.Line) []agent.Outcome {
	w.Helper()
	outcomes, err := w.service.Import(w.Context(), w.by, w.org, lines)
	if err != nil || len(outcomes) != len(lines) {
		w.Fatalf("%d outcomes of %d lines, %v", len(outcomes), len(lines), err)
	}
	return outcomes
}

// fields gives what a refusal names.
func fields(err error) []string {
	var names []string
	if f := fault.As(err); f != nil {
		for _, field := range f.Fields {
			names = append(names, field.Field)
		}
	}
	return names
}

func TestAnImportMakesCredentialsOnlyWhereALineAsks(t *testing.T) { // (R36)
	w := newWorld(t)
	asking := line("b@acme.example")
	asking.Credential = &credential.Request{Label: "first", ExpiresAt: w.at.Add(time.Hour)}
	got := w.imported(line("a@acme.example"), asking)
	if !got[0].Created || got[0].Issued != nil || !got[1].Created || got[1].Issued == nil || got[1].Issued.Label != "first" || got[1].Issued.AgentID != got[1].Agent.ID {
		t.Errorf("the outcomes are %+v", got)
	}
	var actions []audit.Action
	for _, e := range w.store.events {
		actions = append(actions, e.Action)
	}
	if !slices.Equal(actions, []audit.Action{audit.AgentCreated, audit.AgentCreated, audit.CredentialCreated}) || w.store.events[1].ID != got[1].EventID {
		t.Errorf("the events are %v", actions)
	}
}

func TestTheSameLinesAgainChangeNothing(t *testing.T) {
	w := newWorld(t)
	suspended := line("s@acme.example")
	suspended.Status, suspended.Credential = agent.Suspended, &credential.Request{}
	suspended.Metadata = json.RawMessage(`{"b": 1.50, "a": 2}`)
	lines := []agent.Line{line("A@acme.example"), suspended}
	first := w.imported(lines...)
	lines[1].Metadata = json.RawMessage(`{"a":2,"b":1.50}`) // the same, written otherwise
	events := len(w.store.events)
	for i, o := range w.imported(lines...) {
		if o.Err != nil || o.Created || o.Issued != nil || o.Agent.ID != first[i].Agent.ID {
			t.Errorf("line %d again: %+v", i, o)
		}
	}
	if len(w.store.events) != events {
		t.Error("a repetition is recorded as something that happened")
	}
	if first[1].Agent.Status != agent.Suspended {
		t.Error("a line that says suspended made an agent that is not")
	}
}

func TestALineThatIsNotTheAgentNamesWhatDiffers(t *testing.T) {
	w := newWorld(t)
	w.imported(line("a@acme.example"))
	other := line("a@acme.example")
	other.Type, other.Version, other.Capabilities, other.Owner, other.DeploymentEnv = "other", "v2.0.0", []string{"x:y"}, "others", "staging"
	other.Metadata, other.TokenTTL, other.Status = json.RawMessage(`{"a":1}`), time.Hour, agent.Suspended
	got := w.imported(other)[0]
	want := []string{"agentType", "version", "capabilities", "owner", "deploymentEnv", "metadata", "tokenTtlSeconds", "status"}
	if !fault.Is(got.Err, fault.CodeAgentExists) || !slices.Equal(fields(got.Err), want) || got.Agent.ID == uuid.Nil {
		t.Errorf("the outcome is %+v, naming %v", got, fields(got.Err))
	}
}

func TestABadLineFailsAlone(t *testing.T) {
	w := newWorld(t)
	bad, proud, ending := line("nobody"), line("c@acme.example"), line("d@acme.example")
	proud.Capabilities = []string{scope.AuditRead}
	ending.Status = agent.Revoked
	ending.Credential = &credential.Request{Label: " x", ExpiresAt: w.at.Add(-time.Hour)}
	got := w.imported(bad, line("b@acme.example"), proud, line("c@acme.example"), ending)
	if !slices.Equal(fields(got[0].Err), []string{"email"}) || !fault.Is(got[2].Err, fault.CodeInsufficientScope) ||
		!slices.Equal(fields(got[4].Err), []string{"status", "credential.label", "credential.expiresAt"}) {
		t.Errorf("the bad lines: %v, %v, %v", got[0].Err, got[2].Err, fields(got[4].Err))
	}
	if !got[1].Created || !got[3].Created { // what failed does not hold the email
		t.Errorf("the good lines: %+v, %+v", got[1], got[3])
	}
}

func TestTwoLinesOfOneEmailMakeOneAgent(t *testing.T) {
	w := newWorld(t)
	other := line("a@acme.example")
	other.Owner = "others"
	other.Credential = &credential.Request{}
	got := w.imported(line("a@acme.example"), line("A@ACME.example"), other)
	if !got[0].Created || got[1].Created || got[1].Err != nil || got[1].Agent.ID != got[0].Agent.ID {
		t.Errorf("the same line twice: %+v", got)
	}
	if !slices.Equal(fields(got[2].Err), []string{"owner"}) || got[2].Issued != nil {
		t.Errorf("another line of the same email: %+v", got[2])
	}
	w = newWorld(t)
	w.store.full = -1
	w.create(draft())
	w.store.full = 1
	for i, o := range w.imported(line("b@acme.example"), line("b@acme.example")) {
		if !fault.Is(o.Err, fault.CodeConflict) {
			t.Errorf("line %d where there is no room: %+v", i, o)
		}
	}
}

func TestAnEmailThatIsTakenMeanwhileIsComparedThen(t *testing.T) {
	w := newWorld(t)
	faster := w.imported(line("a@acme.example"))[0].Agent
	w.store.agents = nil
	w.store.meanwhile = &faster
	asking := line("a@acme.example")
	asking.Credential = &credential.Request{}
	if got := w.imported(asking)[0]; got.Err != nil || got.Created || got.Issued != nil || got.Agent.ID != faster.ID {
		t.Errorf("the outcome is %+v", got)
	}
}

func TestAnImportThatCannotBeStoredSaysSo(t *testing.T) {
	w := newWorld(t)
	w.store.broken = errors.New("the database is away")
	if _, err := w.service.Import(t.Context(), w.by, w.org, []agent.Line{line("a@acme.example")}); !errors.Is(err, w.store.broken) {
		t.Errorf("the error is %v", err)
	}
	if got := w.imported(line("nobody")); got[0].Err == nil { // nothing is asked of the store
		t.Error("a bad line did not fail")
	}
}
