package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// deadlines is a connection that notes when it must be read, and written, by.
type deadlines struct {
	http.ResponseWriter
	read, written []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.read = append(d.read, t)
	return nil
}

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.written = append(d.written, t)
	return nil
}

func (d *deadlines) Flush() {}

// TestALongAnswerOutlastsTheDeadlineOfARequest: that one is for its beginning.
func TestALongAnswerOutlastsTheDeadlineOfARequest(t *testing.T) {
	ended, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	recorder := httptest.NewRecorder()
	conn := &deadlines{ResponseWriter: recorder}
	s := newStreamWriter(conn, ndjson)
	s.serve(httptest.NewRequest(http.MethodGet, "/", http.NoBody).WithContext(ended), func(ctx context.Context) error {
		if err := s.flush(); err != nil {
			return err
		}
		<-ended.Done()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if end, ok := ctx.Deadline(); !ok || time.Until(end) > streamLongest {
			t.Errorf("it may take until %v", end)
		}
		return s.line("x")
	})
	if recorder.Code != http.StatusOK || recorder.Body.String() != "\"x\"\n" || len(conn.written) == 0 || conn.read[0] != (time.Time{}) {
		t.Errorf("%d %q, deadlines %v", recorder.Code, recorder.Body, conn)
	}
}

// TestAnAnswerThatDoesNotBeginKeepsTheDeadline, so that the client is told.
func TestAnAnswerThatDoesNotBeginKeepsTheDeadline(t *testing.T) {
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	recorder := httptest.NewRecorder()
	newStreamWriter(&deadlines{ResponseWriter: recorder}, ndjson).serve(httptest.NewRequest(http.MethodGet, "/", http.NoBody).WithContext(short), func(ctx context.Context) error {
		<-ctx.Done()
		return fault.UnavailableBecause(ctx.Err())
	})
	if recorder.Code != http.StatusServiceUnavailable {
		t.Errorf("the answer is %d", recorder.Code)
	}
}

func reading(conn http.ResponseWriter, body io.Reader) *lineReader {
	return newLineReader(body, http.NewResponseController(conn), func(text []byte) (agent.Line, error) {
		return agent.Line{Draft: agent.Draft{Email: string(text)}}, nil
	})
}

// TestEachLineHasItsTime: a client that sends a byte now and then does not hold its
// place for ever.
func TestEachLineHasItsTime(t *testing.T) {
	conn := &deadlines{ResponseWriter: httptest.NewRecorder()}
	in, out := io.Pipe()
	lines := reading(conn, in)
	for n := range 3 {
		go func() { _, _ = io.WriteString(out, "one\ntwo\n") }()
		chunk, err := lines.chunk()
		if err != nil || len(chunk) != 2 || chunk[1].number != int64(2*n+2) || chunk[1].line.Email != "two" {
			t.Fatalf("%+v %v", chunk, err)
		}
		if len(conn.read) != n+1 || time.Until(conn.read[n]) > lineTimeout { // once for the two, which came together
			t.Errorf("the deadlines are %v", conn.read)
		}
	}
}

// TestAChunkEndsWhereTheNextLineHasNotArrived, and where it is large.
func TestAChunkEndsWhereTheNextLineHasNotArrived(t *testing.T) {
	conn := &deadlines{ResponseWriter: httptest.NewRecorder()}
	lines := reading(conn, strings.NewReader(strings.Repeat("line\n", chunkLines+1)))
	first, err := lines.chunk()
	second, end := lines.chunk()
	if len(first) != chunkLines || err != nil || len(second) != 1 || end != nil {
		t.Errorf("%d lines and %v, %d lines and %v", len(first), err, len(second), end)
	}
	lines = reading(conn, io.MultiReader(strings.NewReader("whole\nha"), iotest.ErrReader(io.ErrUnexpectedEOF)))
	first, err = lines.chunk()
	second, end = lines.chunk()
	if len(first) != 1 || err != nil || len(second) != 0 || !errors.Is(end, io.ErrUnexpectedEOF) {
		t.Errorf("%d lines and %v, then %d and %v", len(first), err, len(second), end)
	}
}
