package api

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// Bounds on the lines of an import. One that is too long fails; one that is far too long
// is not even read to its end.
const (
	maxLine     = maxBody
	maxSkipped  = 1 << 20          // bytes
	lineTimeout = 30 * time.Second // for a line to arrive
)

// Bounds on what is read ahead of what is stored, and stored in one transaction. Those
// who wait for the embedded database's one writer wait for one such transaction.
const (
	chunkLines       = 256
	chunkBytes       = 256 << 10
	chunkCredentials = 32 // a hash may cost 57 ms
)

// numbered is a line that was read, or why it could not be.
type numbered struct {
	number int64
	line   agent.Line
	err    error
}

// lineReader reads the lines of an import.
type lineReader struct {
	buffer  *bufio.Reader
	control *http.ResponseController
	read    func(text []byte) (agent.Line, error)
	number  int64
}

func newLineReader(body io.Reader, control *http.ResponseController, read func(text []byte) (agent.Line, error)) *lineReader {
	return &lineReader{buffer: bufio.NewReaderSize(body, 2*maxLine), control: control, read: read}
}

// chunk reads lines until there are many, or the next one has not arrived: who waits for
// the answers before they send more gets them. Its error is io.EOF after the last line.
func (l *lineReader) chunk() ([]numbered, error) {
	var all []numbered
	for size, credentials := 0, 0; len(all) < chunkLines && size < chunkBytes && credentials < chunkCredentials; {
		text, err := l.next()
		text = bytes.TrimRight(text, "\r\n")
		whole := err == nil || errors.Is(err, io.EOF)
		switch {
		case whole && len(text) > maxLine, errors.Is(err, errSkipped), errors.Is(err, errEndless):
			all = append(all, numbered{number: l.number, err: fault.New(fault.TooLarge, fault.CodePayloadTooLarge, "the line must be at most 64 KiB")})
		case whole && len(bytes.TrimSpace(text)) > 0:
			one := numbered{number: l.number}
			one.line, one.err = l.read(bytes.Clone(text))
			if one.line.Credential != nil {
				credentials++
			}
			all, size = append(all, one), size+len(text)
		}
		if err != nil && !errors.Is(err, errSkipped) {
			return all, err
		}
		if len(all) > 0 && !l.waits() {
			return all, nil
		}
	}
	return all, nil
}

// waits reports whether the next line is here already.
func (l *lineReader) waits() bool {
	here, _ := l.buffer.Peek(l.buffer.Buffered()) // no more than there is
	return bytes.IndexByte(here, '\n') >= 0
}

// What is wrong with a line that was too long to be kept, and with one that ends the import.
var (
	errSkipped = errors.New("the line is too long")
	errEndless = errors.New("the line is far too long")
)

// next gives the next line, valid until it is called again. What comes with another error
// than io.EOF is no line: the rest of it is missing.
func (l *lineReader) next() ([]byte, error) {
	if !l.waits() {
		if err := l.control.SetReadDeadline(time.Now().Add(lineTimeout)); err != nil {
			return nil, err
		}
	}
	l.number++
	text, err := l.buffer.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return text, err
	}
	for skipped := len(text); errors.Is(err, bufio.ErrBufferFull); skipped += len(text) {
		if skipped > maxSkipped {
			return nil, errEndless
		}
		text, err = l.buffer.ReadSlice('\n')
	}
	if err == nil || errors.Is(err, io.EOF) {
		return nil, errSkipped
	}
	return nil, err
}

// readLine reads what a line says of an agent, and names all that is wrong with it.
func (h *Handler) readLine(tenant uuid.UUID, text []byte) (agent.Line, error) {
	o, err := parseObject("line", text)
	if err != nil {
		return agent.Line{}, err
	}
	o.findings = &findings{}
	l := agent.Line{Draft: o.draft()}
	if status := o.text("status"); status != nil {
		if l.Status = agent.Status(*status); l.Status == "" {
			o.wrong("status", "enum", "must be active or suspended")
		}
	}
	if raw, ok := o.member("credential"); ok {
		l.Credential = o.credential(raw)
	}
	o.readOnly("id", "organizationId", "createdAt", "updatedAt", "lastAuthAt")
	o.unknown()
	if len(o.fields) == 0 {
		return l, nil
	}
	o.add(h.cfg.Agents.ValidateLine(tenant, l))
	return l, fault.InvalidFields(o.fields...)
}

// nested reads an object within another, and names its fields after it.
func (o *object) nested(name string, raw []byte, read func(inner *object)) {
	inner, err := parseObject(name, raw)
	if err != nil {
		o.wrong(name, "type", "must be a JSON object")
		return
	}
	inner.findings = &findings{}
	read(inner)
	inner.unknown()
	for _, f := range inner.fields {
		o.wrong(name+"."+f.Field, f.Rule, strings.TrimPrefix(f.Message, f.Field+" "))
	}
}
