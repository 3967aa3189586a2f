package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// addPath is where a checkpoint is submitted, below a witness's submission prefix.
const addPath = "/add-checkpoint"

// HandlerConfig is what a witness needs.
type HandlerConfig struct {
	// Logs are the verifier keys of the logs it cosigns for; the name of each is the
	// log's origin.
	Logs     []note.Verifier
	Store    *Store
	Cosigner *transparency.Cosigner
	Logger   *slog.Logger
	Now      func() time.Time
}

// Handler is a witness: it serves POST /add-checkpoint (C2SP tlog-witness).
type Handler struct {
	HandlerConfig
	logs map[string]note.Verifier
}

// NewHandler makes a witness. It gives an error where two logs have one origin.
func NewHandler(cfg HandlerConfig) (*Handler, error) {
	logs, err := byOrigin(cfg.Logs)
	if err != nil {
		return nil, err
	}
	return &Handler{HandlerConfig: cfg, logs: logs}, nil
}

func byOrigin(keys []note.Verifier) (map[string]note.Verifier, error) {
	logs := map[string]note.Verifier{}
	for _, key := range keys {
		if logs[key.Name()] != nil {
			return nil, fmt.Errorf("two keys of logs have the origin %s", key.Name())
		}
		logs[key.Name()] = key
	}
	return logs, nil
}

// outcome is an answer, and what the log line says of the request.
type outcome struct {
	status    int
	mediaType string
	body      string
	origin    string
	old, size int64
	err       error
}

// ServeHTTP answers a request and logs it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := h.Now()
	o := h.answer(w, r)
	if o.mediaType == "" {
		o.mediaType = "text/plain; charset=utf-8"
	}
	w.Header().Set("Content-Type", o.mediaType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(o.status)
	_, written := io.WriteString(w, o.body)
	h.log(r, o, began, written)
}

func (h *Handler) log(r *http.Request, o outcome, began time.Time, written error) {
	attributes := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", o.status), slog.String("source", r.RemoteAddr),
		slog.Int64("durationMicros", h.Now().Sub(began).Microseconds()),
	}
	if o.origin != "" {
		attributes = append(attributes, slog.String("log", o.origin), slog.Int64("old", o.old), slog.Int64("size", o.size))
	}
	if err := errors.Join(o.err, written); err != nil {
		attributes = append(attributes, slog.String("error", err.Error()))
	}
	level, contradiction := slog.LevelInfo, (*Contradiction)(nil)
	switch {
	case errors.As(o.err, &contradiction):
		if level = slog.LevelWarn; errors.Is(o.err, ErrForked) {
			level = slog.LevelError
		}
		attributes = append(attributes, slog.String("known", contradiction.Known), slog.String("shown", contradiction.Shown))
	case o.status >= http.StatusInternalServerError:
		level = slog.LevelError
	}
	h.Logger.LogAttrs(context.WithoutCancel(r.Context()), level, "request", attributes...)
}

func refuse(status int, err error) outcome {
	return outcome{status: status, body: err.Error() + "\n", err: err}
}

// answer judges a request.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request) outcome {
	if r.URL.Path != addPath {
		return refuse(http.StatusNotFound, errors.New("this is a witness: it knows POST "+addPath+" alone"))
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return refuse(http.StatusMethodNotAllowed, errors.New("the method must be POST"))
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return refuse(http.StatusRequestEntityTooLarge, fmt.Errorf("the body is longer than %d bytes", tooLong.Limit))
	}
	if err != nil {
		return refuse(http.StatusBadRequest, fmt.Errorf("reading the body: %w", err))
	}
	req, err := parseRequest(body)
	if err != nil {
		return refuse(http.StatusBadRequest, err)
	}
	return h.add(req)
}

// add judges a checkpoint and cosigns it.
func (h *Handler) add(req request) outcome {
	origin, _, _ := strings.Cut(string(req.checkpoint), "\n")
	key := h.logs[origin]
	if key == nil {
		return refuse(http.StatusNotFound, errors.New("the origin of the checkpoint is not known here"))
	}
	opened, err := note.Open(req.checkpoint, note.VerifierList(key))
	if err != nil {
		return withLog(refuse(unopened(err), fmt.Errorf("the checkpoint: %w", err)), origin, req.old, 0)
	}
	c, err := transparency.ParseCheckpoint(opened.Text)
	if err == nil && c.Size > maxSize {
		err = errors.New("its size is out of bounds")
	}
	if err == nil && req.old > c.Size {
		err = fmt.Errorf("its size is smaller than the old size %d", req.old)
	}
	if err != nil {
		return withLog(refuse(http.StatusBadRequest, fmt.Errorf("the checkpoint: %w", err)), origin, req.old, c.Size)
	}
	lines, err := h.Store.cosign(c, asNote(opened), req, func() ([]byte, error) { return signatureLines(opened.Text, h.Cosigner) })
	return withLog(h.outcome(origin, lines, err), origin, req.old, c.Size)
}

func withLog(o outcome, origin string, old, size int64) outcome {
	o.origin, o.old, o.size = origin, old, size
	return o
}

// outcome gives the answer to what became of a checkpoint.
func (h *Handler) outcome(origin string, lines []byte, err error) outcome {
	behind := (*conflict)(nil)
	switch {
	case err == nil:
		return outcome{status: http.StatusOK, body: string(lines)}
	case errors.As(err, &behind):
		return outcome{status: http.StatusConflict, mediaType: sizeType, body: strconv.FormatInt(behind.known, 10) + "\n", err: err}
	case errors.Is(err, ErrForked):
		return outcome{status: http.StatusConflict, mediaType: sizeType, body: strconv.FormatInt(h.Store.size(origin), 10) + "\n", err: err}
	case errors.Is(err, errProof):
		return refuse(http.StatusUnprocessableEntity, err)
	}
	o := refuse(http.StatusInternalServerError, errors.New("the witness cannot sign now"))
	o.err = err
	return o
}

// sizeType is the media type of the size that a witness remembers.
const sizeType = "text/x.tlog.size"

// unopened gives the status for a checkpoint whose signature does not verify, or that
// is none.
func unopened(err error) int {
	unverified, invalid := (*note.UnverifiedNoteError)(nil), (*note.InvalidSignatureError)(nil)
	if errors.As(err, &unverified) || errors.As(err, &invalid) {
		return http.StatusForbidden
	}
	return http.StatusBadRequest
}

// asNote writes a note with the signatures that were verified, and no others.
func asNote(n *note.Note) string {
	var text strings.Builder
	text.WriteString(n.Text + "\n")
	for _, s := range n.Sigs {
		text.WriteString(signatureLine(s))
	}
	return text.String()
}

func signatureLine(s note.Signature) string { return "— " + s.Name + " " + s.Base64 + "\n" }

// signatureLines signs a text and gives the signature without the text.
func signatureLines(text string, signer note.Signer) ([]byte, error) {
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return nil, fmt.Errorf("cosigning: %w", err)
	}
	return signed[len(text)+1:], nil
}
