package audit

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Encode gives the event's canonical bytes, version 1: one JSON object with
// exactly these members in this order and no white space. The sequence is not
// among them, as it is the event's place in the log and not part of what
// happened.
func (e Event) Encode() []byte {
	b := make([]byte, 0, 512+len(e.Details.members))
	b = append(b, `{"v":1,"id":"`...)
	b = appendUUID(b, e.ID)
	b = append(b, `","time":`...)
	b = appendTime(b, e.Time)
	b = append(b, `,"organizationId":"`...)
	b = appendUUID(b, e.OrganizationID)
	b = append(b, `","actor":{"type":`...)
	b = appendText(b, e.Actor.Type)
	b = append(b, `,"id":`...)
	b = appendText(b, e.Actor.ID)
	b = append(b, `},"action":`...)
	b = appendText(b, string(e.Action))
	b = append(b, `,"target":{"type":`...)
	b = appendText(b, e.Target.Type)
	b = append(b, `,"id":`...)
	b = appendText(b, e.Target.ID)
	b = append(b, `},"agentId":"`...)
	b = appendUUID(b, e.AgentID)
	b = append(b, `","outcome":`...)
	b = appendText(b, string(e.Outcome))
	b = append(b, `,"reason":`...)
	b = appendText(b, e.Reason)
	b = append(b, `,"requestId":`...)
	b = appendText(b, e.RequestID)
	b = append(b, `,"sourceIp":`...)
	b = appendText(b, e.SourceIP)
	b = append(b, `,"details":`...)
	b = e.Details.appendJSON(b)
	b = append(b, `,"salt":`...)
	b = appendText(b, e.Salt)
	return append(b, '}')
}

func appendUUID(b []byte, id uuid.UUID) []byte {
	const dashes = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
	at := len(b)
	b = append(b, dashes...)
	text := b[at:]
	hex.Encode(text[0:8], id[0:4])
	hex.Encode(text[9:13], id[4:6])
	hex.Encode(text[14:18], id[6:8])
	hex.Encode(text[19:23], id[8:10])
	hex.Encode(text[24:36], id[10:16])
	return b
}

// Decode reads an event's canonical bytes. It fails on bytes that are not an
// event of version 1.
func Decode(body []byte) (Event, error) {
	var raw struct {
		V              int             `json:"v"`
		ID             uuid.UUID       `json:"id"`
		Time           time.Time       `json:"time"`
		OrganizationID uuid.UUID       `json:"organizationId"`
		Actor          Actor           `json:"actor"`
		Action         Action          `json:"action"`
		Target         Target          `json:"target"`
		AgentID        uuid.UUID       `json:"agentId"`
		Outcome        Outcome         `json:"outcome"`
		Reason         string          `json:"reason"`
		RequestID      string          `json:"requestId"`
		SourceIP       string          `json:"sourceIp"`
		Details        json.RawMessage `json:"details"`
		Salt           string          `json:"salt"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return Event{}, fmt.Errorf("decoding an audit event: %w", err)
	}
	if raw.V != 1 || len(raw.Details) < 2 || raw.Details[0] != '{' {
		return Event{}, fmt.Errorf("decoding an audit event: version %d is not known", raw.V)
	}
	return Event{
		ID: raw.ID, Time: raw.Time, OrganizationID: raw.OrganizationID, AgentID: raw.AgentID,
		Actor: raw.Actor, Action: raw.Action, Target: raw.Target, Outcome: raw.Outcome, Reason: raw.Reason,
		RequestID: raw.RequestID, SourceIP: raw.SourceIP, Salt: raw.Salt,
		Details: Details{members: raw.Details[1 : len(raw.Details)-1]},
	}, nil
}
