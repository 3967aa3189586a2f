package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// ndjson is the media type of lines of JSON.
const ndjson = "application/x-ndjson"

// How much of a long answer is written at a time, how long a reader may take for it, and
// how long all of it may take.
const (
	streamBuffer  = 64 << 10
	streamTimeout = 30 * time.Second
	streamLongest = time.Hour
)

// streamWriter writes a long answer as it comes.
type streamWriter struct {
	w         http.ResponseWriter
	control   *http.ResponseController
	mediaType string
	buffer    []byte
	started   atomic.Bool
}

func newStreamWriter(w http.ResponseWriter, mediaType string) *streamWriter {
	return &streamWriter{w: w, control: http.NewResponseController(w), mediaType: mediaType}
}

func announce(w http.ResponseWriter, mediaType string) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", "no-store")
}

// serve answers with what write writes. An answer that fails half-way is broken off, so
// that nobody takes it for a whole one.
func (s *streamWriter) serve(r *http.Request, write func(ctx context.Context) error) {
	// The deadline of a request is for the answer's beginning alone, and what has been taken
	// in is carried out though the client goes; that it went shows as the answer is written.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), streamLongest)
	defer cancel()
	defer context.AfterFunc(r.Context(), func() {
		if errors.Is(r.Context().Err(), context.DeadlineExceeded) && !s.started.Load() {
			cancel()
		}
	})()
	// The time-outs of the connection would end what takes longer.
	err := s.control.SetReadDeadline(time.Time{})
	if err == nil {
		err = write(ctx)
	}
	if err == nil {
		err = s.flush()
	}
	switch {
	case err == nil:
	case !s.started.Load():
		wire.Error(s.w, r, err)
	default:
		request.Note(ctx, slog.String("broken off", err.Error()))
		panic(http.ErrAbortHandler)
	}
}

func (s *streamWriter) full() error {
	if len(s.buffer) < streamBuffer {
		return nil
	}
	return s.flush()
}

func (s *streamWriter) flush() error {
	if !s.started.Swap(true) {
		announce(s.w, s.mediaType)
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(streamTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write(s.buffer); err != nil {
		return err
	}
	s.buffer = s.buffer[:0]
	return s.control.Flush()
}
