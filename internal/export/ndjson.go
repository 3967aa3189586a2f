package export

import (
	"encoding/base64"
	"strconv"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

// AppendLine appends an event as a line of JSON: its sequence, and then the
// canonical bytes as they are stored. It fails with ErrBody, and then gives b as it
// was.
func AppendLine(b []byte, e Entry) ([]byte, error) {
	if _, err := e.ID(); err != nil {
		return b, err
	}
	return appendCanonical(appendSequence(b, e.Sequence), e), nil
}

// AppendProven is AppendLine with the leaf hash that the log holds, for an export
// that can be verified.
func AppendProven(b []byte, e Entry, leaf [32]byte) ([]byte, error) {
	if _, err := e.ID(); err != nil {
		return b, err
	}
	b = append(appendSequence(b, e.Sequence), `"leafHash":"`...)
	b = base64.StdEncoding.AppendEncode(b, leaf[:])
	return appendCanonical(append(b, `",`...), e), nil
}

func appendSequence(b []byte, sequence int64) []byte {
	b = append(b, `{"sequence":`...)
	return append(strconv.AppendInt(b, sequence, 10), ',')
}

func appendCanonical(b []byte, e Entry) []byte { return append(append(b, e.Body[1:]...), '\n') }

// AppendSubtree appends the line that stands for leaves that are not shown: those
// from (included) to (excluded), whose subtree has the hash.
func AppendSubtree(b []byte, from, to int64, hash [32]byte) []byte {
	b = append(b, `{"leaves":[`...)
	b = append(strconv.AppendInt(b, from, 10), ',')
	b = append(strconv.AppendInt(b, to, 10), `],"hash":"`...)
	b = base64.StdEncoding.AppendEncode(b, hash[:])
	return append(b, "\"}\n"...)
}

// AppendCheckpoint appends the line of a signed checkpoint.
func AppendCheckpoint(b, signed []byte) []byte {
	b = audit.AppendText(append(b, `{"checkpoint":`...), string(signed))
	return append(b, "}\n"...)
}
