package export

import (
	"strconv"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

// OCSFVersion is the version of the Open Cybersecurity Schema Framework that
// events are written after.
const OCSFVersion = "1.3.0"

// The classes of OCSF that events are told as, and the activity of an action that a
// class has no word for.
const (
	accountChange  = 3001
	authentication = 3002
	apiActivity    = 6003

	other = 99
)

// activity is what an action is in OCSF.
type activity struct {
	class int
	id    int
	name  string
}

// activityOf maps an action. known is false for an action that nobody mapped, which
// is told as an API Activity of its own name.
func activityOf(action audit.Action) (a activity, known bool) {
	switch action {
	case audit.TokenIssued, audit.TokenDenied:
		return activity{authentication, 1, "Logon"}, true
	case audit.TokenRevoked:
		return activity{authentication, 2, "Logoff"}, true
	case audit.TokenIntrospected, audit.CanaryUsed:
		return activity{authentication, other, string(action)}, true
	case audit.AgentCreated:
		return activity{accountChange, 1, "Create"}, true
	case audit.AgentReactivated:
		return activity{accountChange, 2, "Enable"}, true
	case audit.CredentialRotated:
		return activity{accountChange, 3, "Password Change"}, true
	case audit.AgentSuspended, audit.AgentRevoked:
		return activity{accountChange, 5, "Disable"}, true
	case audit.AgentArchived:
		return activity{accountChange, 6, "Delete"}, true
	case audit.AgentUpdated, audit.AgentTokensRevoked, audit.CredentialCreated, audit.CredentialRevoked, audit.CredentialSuperseded, audit.CredentialExpiring,
		audit.CredentialExpired, audit.CredentialLeaked, audit.CredentialBrownout, audit.CredentialRetiring:
		return activity{accountChange, other, string(action)}, true
	case audit.OrganizationCreated, audit.RevocationCreated:
		return activity{apiActivity, 1, "Create"}, true
	case "audit.exported":
		return activity{apiActivity, 2, "Read"}, true
	case audit.OrganizationUpdated, audit.KeyRotated, audit.RevocationCompleted, audit.RotationPolicySet, audit.RotationPolicyApplied:
		return activity{apiActivity, 3, "Update"}, true
	case "audit.dropped", audit.RotationPolicyRemoved:
		return activity{apiActivity, 4, "Delete"}, true
	case audit.AuthorizationDenied:
		return activity{apiActivity, other, string(action)}, true
	}
	return activity{apiActivity, other, string(action)}, false
}

func className(class int) string {
	switch class {
	case accountChange:
		return "Account Change"
	case authentication:
		return "Authentication"
	}
	return "API Activity"
}

func categoryName(class int) string {
	if class/1000 == 3 {
		return "Identity & Access Management"
	}
	return "Application Activity"
}

// ocsf writes events for a version of the product.
type ocsf struct{ version string }

// appendLine appends an event as a line of OCSF. Nothing of it is lost but the salt:
// what OCSF has no place for stands in unmapped.
func (o ocsf) appendLine(b []byte, entry Entry) ([]byte, error) {
	e, err := entry.Event()
	if err != nil {
		return b, err
	}
	a, _ := activityOf(e.Action)
	b = appendClass(b, a)
	b = appendOutcome(b, e)
	b = appendInt(b, `,"time":`, e.Time.UnixMilli())
	b = o.appendMetadata(b, e)
	b = append(b, `,"actor":{"user":`...)
	b = append(appendActor(b, e.Actor), '}')
	b = appendSource(b, e)
	if e.RequestID != "" {
		b = append(appendMember(b, `,"http_request":{"uid":`, e.RequestID), '}')
	}
	switch a.class {
	case apiActivity:
		b = append(appendMember(b, `,"api":{"operation":`, string(e.Action)), `,"service":{"name":"AgentIdP"}}`...)
		if e.Target.ID != "" {
			b = appendMember(b, `,"resources":[{"uid":`, e.Target.ID)
			b = append(appendMember(b, `,"type":`, e.Target.Type), "}]"...)
		}
	case authentication:
		b = append(b, `,"service":{"name":"AgentIdP"},"auth_protocol_id":6,"auth_protocol":"OAUTH 2.0"`...)
		if e.Target.Type == audit.TypeToken && e.Target.ID != "" {
			b = append(appendMember(b, `,"session":{"uid":`, e.Target.ID), '}')
		}
		b = appendUser(b, e)
	default:
		b = appendUser(b, e)
	}
	return appendUnmapped(b, e), nil
}

func appendClass(b []byte, a activity) []byte {
	b = appendInt(b, `{"class_uid":`, int64(a.class))
	b = appendMember(b, `,"class_name":`, className(a.class))
	b = appendInt(b, `,"category_uid":`, int64(a.class/1000))
	b = appendMember(b, `,"category_name":`, categoryName(a.class))
	b = appendInt(b, `,"activity_id":`, int64(a.id))
	b = appendMember(b, `,"activity_name":`, a.name)
	b = appendInt(b, `,"type_uid":`, int64(a.class*100+a.id))
	typeName := a.name
	if a.id == other {
		typeName = "Other"
	}
	return appendMember(b, `,"type_name":`, className(a.class)+": "+typeName)
}

func appendOutcome(b []byte, e audit.Event) []byte {
	if e.Outcome == audit.Denied {
		b = append(b, `,"severity_id":2,"severity":"Low","status_id":2,"status":"Failure"`...)
	} else {
		b = append(b, `,"severity_id":1,"severity":"Informational","status_id":1,"status":"Success"`...)
	}
	if e.Reason != "" {
		b = appendMember(b, `,"status_detail":`, e.Reason)
	}
	return b
}

func (o ocsf) appendMetadata(b []byte, e audit.Event) []byte {
	b = append(b, `,"metadata":{"version":"`+OCSFVersion+`","product":{"vendor_name":"SentryAgent.ai","name":"AgentIdP"`...)
	if o.version != "" {
		b = appendMember(b, `,"version":`, o.version)
	}
	b = appendMember(b, `},"uid":`, e.ID.String())
	b = appendInt(b, `,"sequence":`, e.Sequence)
	b = appendMember(b, `,"event_code":`, string(e.Action))
	b = appendMember(b, `,"original_time":`, e.Time.UTC().Format(timeLayout))
	b = appendMember(b, `,"tenant_uid":`, e.OrganizationID.String())
	return append(b, `,"log_name":"audit"}`...)
}

// appendActor appends who acted, as a user of OCSF.
func appendActor(b []byte, a audit.Actor) []byte {
	switch {
	case a.Type == audit.TypeAgent:
		return append(appendMember(b, `{"uid":`, a.ID), `,"type_id":99,"type":"agent"}`...)
	case a.Type == audit.TypeSystem && a.ID != "":
		return append(appendMember(b, `{"name":`, a.ID), `,"type_id":3,"type":"System"}`...)
	}
	b = append(b, `{"name":"anonymous"`...)
	if a.ID != "" {
		b = appendMember(b, `,"uid":`, a.ID)
	}
	return append(b, `,"type_id":0,"type":"Unknown"}`...)
}

// appendUser appends the agent that an event of identity is about, or what little is
// known of it.
func appendUser(b []byte, e audit.Event) []byte {
	switch {
	case e.AgentID != uuid.Nil:
		b = appendMember(b, `,"user":{"uid":`, e.AgentID.String())
		b = append(b, `,"type_id":99,"type":"agent"`...)
	case e.Target.Type == audit.TypeAgent && e.Target.ID != "": // what a client called itself
		b = append(appendMember(b, `,"user":{"uid":`, e.Target.ID), `,"type_id":0,"type":"Unknown"`...)
	default:
		return append(b, `,"user":{"name":"unknown","type_id":0,"type":"Unknown"}`...)
	}
	if e.Target.Type == audit.TypeCredential && e.Target.ID != "" {
		b = appendMember(b, `,"credential_uid":`, e.Target.ID)
	}
	b = appendMember(b, `,"org":{"uid":`, e.OrganizationID.String())
	return append(b, "}}"...)
}

// appendSource appends where it came from. API Activity must have one.
func appendSource(b []byte, e audit.Event) []byte {
	switch {
	case e.SourceIP != "":
		b = appendMember(b, `,"src_endpoint":{"ip":`, e.SourceIP)
	case e.Actor.Type == audit.TypeSystem:
		b = append(b, `,"src_endpoint":{"svc_name":"agentidp"`...)
	default:
		b = append(b, `,"src_endpoint":{"name":"unknown"`...)
	}
	return append(b, '}')
}

func appendUnmapped(b []byte, e audit.Event) []byte {
	b = appendMember(b, `,"unmapped":{"outcome":`, string(e.Outcome))
	b = appendMember(b, `,"agentId":`, about(e))
	b = appendMember(b, `,"actor":{"type":`, e.Actor.Type)
	b = appendMember(b, `,"id":`, e.Actor.ID)
	b = appendMember(b, `},"target":{"type":`, e.Target.Type)
	b = appendMember(b, `,"id":`, e.Target.ID)
	b = append(b, `},"details":`...)
	b = append(b, e.Details.JSON()...)
	return append(b, "}}\n"...)
}

// appendMember appends what leads to a text, and the text.
func appendMember(b []byte, lead, text string) []byte {
	return audit.AppendText(append(b, lead...), text)
}

func appendInt(b []byte, lead string, n int64) []byte {
	return strconv.AppendInt(append(b, lead...), n, 10)
}
