package export

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

// written is what a reader of OCSF finds.
type written struct {
	ClassUID     int    `json:"class_uid"`
	CategoryUID  int    `json:"category_uid"`
	ActivityID   int    `json:"activity_id"`
	ActivityName string `json:"activity_name"`
	TypeUID      int    `json:"type_uid"`
	SeverityID   int    `json:"severity_id"`
	StatusID     int    `json:"status_id"`
	StatusDetail string `json:"status_detail"`
	Time         int64
	Metadata     struct {
		Version  string
		UID      uuid.UUID
		Sequence int64
		Code     audit.Action `json:"event_code"`
		At       time.Time    `json:"original_time"`
		Tenant   uuid.UUID    `json:"tenant_uid"`
		Product  struct {
			Name, Version string
			Vendor        string `json:"vendor_name"`
		}
	}
	Actor    *struct{ User user }
	User     *user
	Service  *struct{ Name string }
	Session  struct{ UID string }
	Source   *struct{ IP, Name, Service string } `json:"src_endpoint"`
	API      *struct{ Operation string }
	Request  struct{ UID string } `json:"http_request"`
	Unmapped struct {
		Outcome audit.Outcome
		AgentID string
		Actor   audit.Actor
		Target  audit.Target
		Details json.RawMessage
	}
}

type user struct {
	UID, Name, Type string
	TypeID          int    `json:"type_id"`
	Credential      string `json:"credential_uid"`
}

func sample(action audit.Action) audit.Event {
	agent := uuid.New()
	return audit.Origin{Actor: audit.Actor{Type: audit.TypeAgent, ID: agent.String()}, RequestID: "req-1", SourceIP: "192.0.2.7"}.
		Event(time.Now(), uuid.New(), action, audit.Target{Type: audit.TypeAgent, ID: agent.String()}).
		About(agent).Because(`"why"`).With(audit.Details{}.String("a", "b"))
}

func ocsfOf(t *testing.T, e audit.Event) written {
	t.Helper()
	line, err := ocsf{version: "1.2.3"}.appendLine(nil, Entry{Sequence: 7, Body: e.Encode()})
	if err != nil {
		t.Fatal(err)
	}
	var w written
	if err := json.Unmarshal(line, &w); err != nil || strings.Count(string(line), "\n") != 1 {
		t.Fatalf("%v in %s", err, line)
	}
	return w
}

// mapping says what every action must be. A new action fails the test until it has
// been given a place here, in activityOf and in docs/audit-export.md.
func mapping() map[audit.Action][2]int {
	return map[audit.Action][2]int{
		audit.AgentCreated: {3001, 1}, audit.AgentUpdated: {3001, 99}, audit.AgentSuspended: {3001, 5}, audit.AgentReactivated: {3001, 2},
		audit.AgentRevoked: {3001, 5}, audit.AgentArchived: {3001, 6}, audit.AgentTokensRevoked: {3001, 99},
		audit.RevocationCreated: {6003, 1}, audit.RevocationCompleted: {6003, 3},
		audit.CredentialCreated: {3001, 99}, audit.CredentialRotated: {3001, 3}, audit.CredentialRevoked: {3001, 99},
		audit.CredentialSuperseded: {3001, 99}, audit.CredentialExpiring: {3001, 99}, audit.CredentialExpired: {3001, 99}, audit.CredentialLeaked: {3001, 99},
		audit.CanaryUsed: {3002, 99}, audit.CredentialBrownout: {3001, 99}, audit.CredentialRetiring: {3001, 99},
		audit.RotationPolicySet: {6003, 3}, audit.RotationPolicyApplied: {6003, 3}, audit.RotationPolicyRemoved: {6003, 4},
		audit.TokenIssued: {3002, 1}, audit.TokenDenied: {3002, 1}, audit.TokenRevoked: {3002, 2}, audit.TokenIntrospected: {3002, 99},
		audit.KeyRotated: {6003, 3}, audit.AuthorizationDenied: {6003, 99}, audit.OrganizationCreated: {6003, 1}, audit.OrganizationUpdated: {6003, 3},
		"audit.exported": {6003, 2}, "audit.dropped": {6003, 4},
	}
}

func TestEveryActionHasItsPlaceInOCSF(t *testing.T) {
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "audit-export.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range audit.Actions() {
		if _, ok := mapping()[action]; !ok {
			t.Errorf("%s has no place", action)
		}
		if _, known := activityOf(action); !known {
			t.Errorf("%s is not mapped", action)
		}
	}
	for action, want := range mapping() {
		w := ocsfOf(t, sample(action))
		if got := [2]int{w.ClassUID, w.ActivityID}; got != want {
			t.Errorf("%s is %v, want %v", action, got, want)
		}
		if row := fmt.Sprintf("| `%s` | %s (%d) | %d |", action, className(want[0]), want[0], want[1]); !strings.Contains(string(document), row) {
			t.Errorf("docs/audit-export.md has no row %s", row)
		}
		if w.CategoryUID != w.ClassUID/1000 || w.TypeUID != w.ClassUID*100+w.ActivityID || w.ActivityName == "" {
			t.Errorf("%s: category %d, type %d, activity %q", action, w.CategoryUID, w.TypeUID, w.ActivityName)
		}
	}
}

// wantRequired checks what OCSF 1.3.0 requires of each class.
func wantRequired(t *testing.T, e audit.Event, w written) {
	t.Helper()
	m := w.Metadata
	if w.SeverityID == 0 || w.Time == 0 || m.Version != "1.3.0" || m.Product.Vendor == "" || m.Product.Name == "" || m.Product.Version != "1.2.3" {
		t.Errorf("%s lacks what every event has: %+v", e.Action, w)
	}
	identity := w.ClassUID != apiActivity
	if named := w.User != nil && (w.User.UID != "" || w.User.Name != ""); identity != named {
		t.Errorf("%s: its user is %+v", e.Action, w.User)
	}
	if w.ClassUID == authentication && (w.Service == nil || w.Service.Name == "") {
		t.Errorf("%s has no service", e.Action)
	}
	if w.ClassUID == apiActivity && (w.API == nil || w.API.Operation == "" || w.Source == nil) {
		t.Errorf("%s has no api or no source", e.Action)
	}
	if w.Actor == nil || w.Actor.User.UID == "" && w.Actor.User.Name == "" {
		t.Errorf("%s has no actor", e.Action)
	}
}

func TestOCSFHasAllThatItRequiresAndLosesNothing(t *testing.T) {
	bare := audit.Origin{Actor: audit.Actor{Type: audit.TypeAnonymous}}
	for action := range mapping() {
		for _, e := range []audit.Event{
			sample(action), sample(action).Deny("agent_suspended"),
			bare.Event(time.Now(), uuid.New(), action, audit.Target{Type: audit.TypeToken}),
			audit.System("agentidp").Event(time.Now(), uuid.New(), action, audit.Target{Type: audit.TypeKey, ID: "k"}),
		} {
			w := ocsfOf(t, e)
			wantRequired(t, e, w)
			m, u := w.Metadata, w.Unmapped
			back := audit.Event{
				ID: m.UID, Time: m.At, OrganizationID: m.Tenant, Actor: u.Actor, Action: m.Code, Target: u.Target, Outcome: u.Outcome,
				Reason: w.StatusDetail, RequestID: w.Request.UID, SourceIP: w.Source.IP, AgentID: uuid.Nil, Salt: e.Salt,
			}
			if u.AgentID != "" {
				back.AgentID = uuid.MustParse(u.AgentID)
			}
			want := e.With(audit.Details{})
			if string(back.Encode()) != string(want.Encode()) || string(u.Details) != string(e.Details.JSON()) || m.Sequence != 7 {
				t.Errorf("OCSF gives back\n%s, want\n%s", back.Encode(), want.Encode())
			}
			if w.Time != e.Time.UnixMilli() {
				t.Errorf("the time is %d, want %d milliseconds", w.Time, e.Time.UnixMilli())
			}
		}
	}
}

func TestARefusalIsAFailureInOCSF(t *testing.T) {
	if w := ocsfOf(t, sample(audit.TokenDenied).Deny("agent_suspended")); w.StatusID != 2 || w.SeverityID != 2 || w.StatusDetail != "agent_suspended" {
		t.Errorf("a refusal is %+v", w)
	}
	if w := ocsfOf(t, sample(audit.TokenIssued)); w.StatusID != 1 || w.SeverityID != 1 {
		t.Errorf("a success is %+v", w)
	}
}

// Who is not known is not made up.
func TestOCSFNamesWhoIsKnown(t *testing.T) {
	claimed := audit.Origin{Actor: audit.Actor{Type: audit.TypeAnonymous}}.
		Event(time.Now(), uuid.New(), audit.TokenDenied, audit.Target{Type: audit.TypeAgent, ID: "somebody"})
	if w := ocsfOf(t, claimed); w.User.UID != "somebody" || w.User.TypeID != 0 || w.Actor.User.Name != "anonymous" || w.Actor.User.TypeID != 0 {
		t.Errorf("a claimed client is user %+v, actor %+v", w.User, w.Actor)
	}
	issued := sample(audit.TokenIssued)
	issued.Target = audit.Target{Type: audit.TypeToken, ID: "jti"}
	if w := ocsfOf(t, issued); w.Session.UID != "jti" || w.User.UID != issued.AgentID.String() || w.User.TypeID != 99 {
		t.Errorf("a token is session %+v of user %+v", w.Session, w.User)
	}
	rotated := sample(audit.CredentialRotated)
	rotated.Target = audit.Target{Type: audit.TypeCredential, ID: "cred"}
	if w := ocsfOf(t, rotated); w.User.Credential != "cred" {
		t.Errorf("a credential is of user %+v", w.User)
	}
	odd := audit.Origin{Actor: audit.Actor{Type: audit.TypeAnonymous, ID: "x"}}.Event(time.Now(), uuid.New(), audit.TokenRevoked, audit.Target{})
	if w := ocsfOf(t, odd); w.Actor.User.UID != "x" || w.User.Name != "unknown" {
		t.Errorf("nobody is user %+v, actor %+v", w.User, w.Actor)
	}
}

// A stream does not stop at an action of a newer version.
func TestAnUnknownActionIsAnAPIActivityOfItsName(t *testing.T) {
	if w := ocsfOf(t, sample("agent.praised")); w.ClassUID != 6003 || w.ActivityID != 99 || w.ActivityName != "agent.praised" || w.API.Operation != "agent.praised" {
		t.Errorf("an unknown action is %+v", w)
	}
}
