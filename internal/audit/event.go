package audit

import (
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/google/uuid"
)

// Action names what happened, dotted.
type Action string

// The actions that are recorded.
const (
	AgentCreated       Action = "agent.created"
	AgentUpdated       Action = "agent.updated"
	AgentSuspended     Action = "agent.suspended"
	AgentReactivated   Action = "agent.reactivated"
	AgentRevoked       Action = "agent.revoked"
	AgentArchived      Action = "agent.archived"
	AgentTokensRevoked Action = "agent.tokens_revoked"
	CredentialCreated  Action = "credential.created"
	CredentialRotated  Action = "credential.rotated"
	CredentialRevoked  Action = "credential.revoked"
	// CredentialSuperseded says that a successor is in use, and when the credential ends.
	CredentialSuperseded  Action = "credential.superseded"
	CredentialExpiring    Action = "credential.expiring"
	CredentialExpired     Action = "credential.expired"
	CredentialLeaked      Action = "credential.leaked"
	CanaryUsed            Action = "credential.canary_used"
	CredentialBrownout    Action = "credential.brownout"
	CredentialRetiring    Action = "credential.retiring"
	RotationPolicySet     Action = "rotation_policy.set"
	RotationPolicyRemoved Action = "rotation_policy.removed"
	RotationPolicyApplied Action = "rotation_policy.applied"
	TokenIssued           Action = "token.issued"
	TokenDenied           Action = "token.denied"
	TokenRevoked          Action = "token.revoked"
	TokenIntrospected     Action = "token.introspected"
	KeyRotated            Action = "key.rotated"
	Exported              Action = "audit.exported"
	Dropped               Action = "audit.dropped"
	AuthorizationDenied   Action = "authorization.denied"
	OrganizationCreated   Action = "organization.created"
	OrganizationUpdated   Action = "organization.updated"
	RevocationCreated     Action = "revocation.created"
	RevocationCompleted   Action = "revocation.completed"
)

// Actions lists all of them.
func Actions() []Action {
	return []Action{
		AgentCreated, AgentUpdated, AgentSuspended, AgentReactivated, AgentRevoked, AgentArchived, AgentTokensRevoked,
		CredentialCreated, CredentialRotated, CredentialRevoked,
		CredentialSuperseded, CredentialExpiring, CredentialExpired, CredentialLeaked, CanaryUsed, CredentialBrownout, CredentialRetiring,
		RotationPolicySet, RotationPolicyRemoved, RotationPolicyApplied, TokenIssued, TokenDenied, TokenRevoked, TokenIntrospected,
		KeyRotated, Exported, Dropped, AuthorizationDenied, OrganizationCreated, OrganizationUpdated,
		RevocationCreated, RevocationCompleted,
	}
}

// Outcome says how an action ended.
type Outcome string

// The outcomes.
const (
	Success Outcome = "success"
	Denied  Outcome = "denied"
)

// The types of actor and target.
const (
	TypeAgent        = "agent"
	TypeCredential   = "credential"
	TypeToken        = "token"
	TypeOrganization = "organization"
	TypeKey          = "key"
	TypeSystem       = "system"
	TypeRequest      = "request"
	TypeAnonymous    = "anonymous"
	TypePolicy       = "rotation_policy"
	TypeRevocation   = "revocation"
)

// Actor is who acted: an agent, the system itself, or nobody we could name.
type Actor struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// Target is what was acted on.
type Target struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

// Origin is where a request came from. The actor in it was authenticated, or is
// anonymous; it is never taken from what a request says of itself.
type Origin struct {
	Actor     Actor
	RequestID string
	SourceIP  string
}

// System is the origin of what the server or its command line does by itself.
func System(name string) Origin { return Origin{Actor: Actor{Type: TypeSystem, ID: name}} }

// Event is one entry of the record. Sequence is given by the store when the
// event is committed; all else is fixed when the event is made.
type Event struct {
	ID             uuid.UUID
	Sequence       int64
	Time           time.Time
	OrganizationID uuid.UUID
	// AgentID is the agent the event is about, uuid.Nil where it is about none.
	AgentID   uuid.UUID
	Actor     Actor
	Action    Action
	Target    Target
	Outcome   Outcome
	Reason    string
	RequestID string
	SourceIP  string
	Details   Details
	// Salt keeps the hash of an event from giving its content away to somebody
	// who guesses it.
	Salt string
}

// Event makes a successful event of this origin at the time now, which is cut
// to microseconds.
func (o Origin) Event(now time.Time, organization uuid.UUID, action Action, target Target) Event {
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails: crypto/rand ends the process instead
	return Event{
		ID:             NewID(now),
		Time:           now.UTC().Truncate(time.Microsecond),
		OrganizationID: organization,
		Actor:          o.Actor,
		Action:         action,
		Target:         target,
		Outcome:        Success,
		RequestID:      o.RequestID,
		SourceIP:       o.SourceIP,
		Salt:           hex.EncodeToString(salt[:]),
	}
}

// About says which agent the event is about.
func (e Event) About(agentID uuid.UUID) Event {
	e.AgentID = agentID
	return e
}

// Because gives the reason a caller stated, or why something was denied.
func (e Event) Because(reason string) Event {
	e.Reason = reason
	return e
}

// With adds details.
func (e Event) With(d Details) Event {
	e.Details = d
	return e
}

// Deny marks the event as a refusal for the reason.
func (e Event) Deny(reason string) Event {
	e.Outcome = Denied
	e.Reason = reason
	return e
}

// NewID makes a UUID of version 7 (RFC 9562 §5.7) whose time part carries
// microseconds, so that ids of one clock sort in the order of their making.
func NewID(now time.Time) uuid.UUID {
	var id uuid.UUID
	_, _ = rand.Read(id[8:])
	micros := now.UnixMicro()
	ms, sub := micros/1000, micros%1000
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i) & 0xff)
	}
	// rand_a holds the microsecond within the millisecond in its upper 10 bits.
	randA := uint16(sub)<<2 | uint16(id[8]>>6) // sub is 0..999
	id[6] = 0x70 | byte(randA>>8)
	id[7] = byte(randA & 0xff)
	id[8] = 0x80 | id[8]&0x3f
	return id
}

// TimeOf gives back the time NewID was called with, to the microsecond. For an
// id of another making the result means nothing.
func TimeOf(id uuid.UUID) time.Time {
	var ms int64
	for i := range 6 {
		ms = ms<<8 | int64(id[i])
	}
	sub := int64(id[6]&0x0f)<<6 | int64(id[7]>>2)
	return time.UnixMicro(ms*1000 + sub).UTC()
}
