package export

import (
	"strconv"
	"strings"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

// csvHeader names the columns (RFC 4180 §2.3).
const csvHeader = "sequence,id,time,organizationId,actorType,actorId,action,targetType,targetId,agentId,outcome,reason,requestId,sourceIp,details\r\n"

const timeLayout = "2006-01-02T15:04:05.000000Z"

// appendRow appends an event as one row. The salt is left out, as nothing can be
// verified from a row.
func appendRow(b []byte, entry Entry) ([]byte, error) {
	e, err := entry.Event()
	if err != nil {
		return b, err
	}
	b = strconv.AppendInt(b, e.Sequence, 10)
	for _, cell := range []string{
		e.ID.String(), e.Time.UTC().Format(timeLayout), e.OrganizationID.String(), e.Actor.Type, e.Actor.ID, string(e.Action),
		e.Target.Type, e.Target.ID, about(e), string(e.Outcome), e.Reason, e.RequestID, e.SourceIP, string(e.Details.JSON()),
	} {
		b = appendCell(append(b, ','), cell)
	}
	return append(b, "\r\n"...), nil
}

// about is the agent that the event is about, empty where it is about none.
func about(e audit.Event) string {
	if e.AgentID == uuid.Nil {
		return ""
	}
	return e.AgentID.String()
}

// appendCell appends a cell, quoted where it must be. Text that a spreadsheet might
// run as a formula gets an apostrophe before it; so does text that begins with one,
// so that taking one away always gives back what was recorded.
func appendCell(b []byte, text string) []byte {
	if strings.IndexAny(text, "=+-@\t\r\n'＝＋－＠") == 0 {
		text = "'" + text
	}
	if !strings.ContainsAny(text, ",\"\r\n") && strings.TrimSpace(text) == text {
		return append(b, text...)
	}
	b = append(b, '"')
	b = append(b, strings.ReplaceAll(text, `"`, `""`)...)
	return append(b, '"')
}
