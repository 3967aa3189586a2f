package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// What became of a line of an import.
const (
	lineCreated   = "created"
	lineUnchanged = "unchanged"
	lineFailed    = "failed"
)

// resultView is the answer to one line of an import.
type resultView struct {
	Line         int64         `json:"line"`
	Result       string        `json:"result"`
	ID           *uuid.UUID    `json:"id,omitempty"`
	Email        string        `json:"email,omitempty"`
	AuditEventID *uuid.UUID    `json:"auditEventId,omitempty"`
	Credential   *issuedView   `json:"credential,omitempty"`
	Error        *wire.Failure `json:"error,omitempty"`
}

func (h *Handler) importAgents(ctx context.Context, c call) (reply, error) {
	if err := wantMedia(c.r, ndjson); err != nil {
		return nil, err
	}
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	return func(w http.ResponseWriter, r *http.Request) {
		s := newStreamWriter(w, ndjson)
		s.serve(r, func(ctx context.Context) error {
			leave, err := h.imports.enter(c.tenant)
			if err != nil {
				return err
			}
			defer leave()
			im := &importing{h: h, call: c, out: s, counts: map[string]int{}}
			defer im.note(ctx)
			return im.run(ctx, r.Body)
		})
	}, nil
}

// importing is an import while it runs.
type importing struct {
	h      *Handler
	call   call
	out    *streamWriter
	counts map[string]int
}

// run answers the lines as they come. While some are being stored the next are read, and
// no more than those: a client that sends faster than lines are stored waits.
func (im *importing) run(ctx context.Context, body io.Reader) error {
	if err := im.out.control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	chunks, end := make(chan []numbered), error(nil)
	lines := newLineReader(body, im.out.control, func(text []byte) (agent.Line, error) { return im.h.readLine(im.call.tenant, text) })
	go func() {
		defer close(chunks)
		for end == nil {
			var chunk []numbered
			chunk, end = lines.chunk()
			select {
			case chunks <- chunk:
			case <-ctx.Done():
				end = context.Cause(ctx)
			}
		}
	}()
	var err error
	for chunk := range chunks {
		if err == nil {
			err = im.store(ctx, chunk)
		}
		if err != nil { // the reader must not touch the request after its end
			cancel()
			_ = im.out.control.SetReadDeadline(time.Unix(1, 0)) // what is read now does not matter
		}
	}
	switch {
	case err != nil:
		return err
	case end == nil, errors.Is(end, io.EOF):
		return nil
	case ctx.Err() != nil:
		return fault.UnavailableBecause(context.Cause(ctx))
	}
	request.Note(ctx, slog.String("body", end.Error()))
	return fault.InvalidField("body", "ndjson", "the body broke off")
}

// store stores the agents of some lines and answers the lines.
func (im *importing) store(ctx context.Context, chunk []numbered) error {
	if len(chunk) == 0 {
		return nil
	}
	if err := im.h.cfg.Log.Pace(ctx); err != nil {
		return err
	}
	lines := make([]agent.Line, 0, len(chunk))
	for _, one := range chunk {
		if one.err == nil {
			lines = append(lines, one.line)
		}
	}
	outcomes, err := im.h.cfg.Agents.Import(ctx, im.call.by, im.call.tenant, lines)
	if err != nil {
		return err
	}
	for _, one := range chunk {
		outcome := agent.Outcome{Err: one.err}
		if one.err == nil {
			outcome, outcomes = outcomes[0], outcomes[1:]
		}
		if err := im.answer(ctx, one, outcome); err != nil {
			return err
		}
	}
	return im.out.flush()
}

func (im *importing) answer(ctx context.Context, one numbered, o agent.Outcome) error {
	v := resultView{Line: one.number, Result: lineUnchanged, ID: maybe(o.Agent.ID), Email: one.line.Email}
	if o.Agent.Email != "" {
		v.Email = o.Agent.Email
	}
	if o.Created {
		v.Result, v.AuditEventID = lineCreated, maybe(o.EventID)
	}
	if o.Issued != nil {
		issued := viewIssued(*o.Issued)
		v.Credential = &issued
	}
	if f := fault.As(o.Err); f != nil {
		if err := im.h.deny(ctx, im.call.r, im.call.by, f); err != nil {
			return err
		}
		failure := wire.Describe(f)
		v.Result, v.Error = lineFailed, &failure
	}
	im.counts[v.Result]++
	return im.out.line(v)
}

// note tells the log line of the request what became of its lines.
func (im *importing) note(ctx context.Context) {
	for _, result := range []string{lineCreated, lineUnchanged, lineFailed} {
		request.Note(ctx, slog.Int(result, im.counts[result]))
	}
}

// line writes a value as one line of JSON.
func (s *streamWriter) line(value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	s.buffer = append(append(s.buffer, text...), '\n')
	return nil
}

// credential reads what is asked of a first credential.
func (o *object) credential(raw []byte) *credential.Request {
	var r credential.Request
	o.nested("credential", raw, func(inner *object) { r = credentialRequest(inner) })
	return &r
}

// lineView is an agent as an import takes it.
type lineView struct {
	Email           string          `json:"email"`
	AgentType       string          `json:"agentType"`
	Version         string          `json:"version"`
	Capabilities    []string        `json:"capabilities"`
	Owner           string          `json:"owner"`
	DeploymentEnv   string          `json:"deploymentEnv"`
	Metadata        json.RawMessage `json:"metadata"`
	TokenTTLSeconds *int64          `json:"tokenTtlSeconds"`
	Status          agent.Status    `json:"status"`
}

func (h *Handler) exportAgents(ctx context.Context, c call) (reply, error) {
	f := c.query.agents(agent.Active, agent.Suspended)
	if err := c.accept(ctx, nil); err != nil {
		return nil, err
	}
	if c.r.Method == http.MethodHead { // how long it would be nobody knows
		return func(w http.ResponseWriter, _ *http.Request) { announce(w, ndjson) }, nil
	}
	return func(w http.ResponseWriter, r *http.Request) {
		s := newStreamWriter(w, ndjson)
		s.serve(r, func(ctx context.Context) error { return h.writeAgents(ctx, s, c.tenant, f) })
	}, nil
}

// writeAgents goes from the newest agent to the oldest, so that those which are added
// meanwhile come before what is still to be read.
func (h *Handler) writeAgents(ctx context.Context, s *streamWriter, tenant uuid.UUID, f agent.Filter) error {
	const step = 500
	for after := (page.Cursor{}); ; {
		p, err := h.cfg.Agents.List(ctx, tenant, f, page.Query{Limit: step, After: after})
		if err != nil {
			return err
		}
		for _, a := range p.Items {
			if a.Status.Ended() {
				continue
			}
			v := viewAgent(a)
			if err := s.line(lineView{
				Email: v.Email, AgentType: v.AgentType, Version: v.Version, Capabilities: v.Capabilities, Owner: v.Owner,
				DeploymentEnv: v.DeploymentEnv, Metadata: v.Metadata, TokenTTLSeconds: v.TokenTTLSeconds, Status: v.Status,
			}); err != nil {
				return err
			}
			if err := s.full(); err != nil {
				return err
			}
		}
		if p.Next == "" {
			return nil
		}
		if after, err = page.ParseCursor(p.Next); err != nil {
			return err
		}
	}
}

// importsOfOne is how many imports one organization may run on a node at a time.
const importsOfOne = 4

// places bounds how much of something each organization may do at a time.
type places struct {
	mu    sync.Mutex
	taken map[uuid.UUID]int
}

func newPlaces() *places { return &places{taken: map[uuid.UUID]int{}} }

// enter takes a place until leave is called. It fails with UNAVAILABLE where there is none.
func (p *places) enter(organization uuid.UUID) (leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken[organization] >= importsOfOne {
		return nil, &fault.Error{
			Kind: fault.Unavailable, Code: fault.CodeUnavailable, RetryAfter: time.Second,
			Message: "as many imports of the organization are running as may at a time",
		}
	}
	p.taken[organization]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.taken[organization]--; p.taken[organization] == 0 {
			delete(p.taken, organization)
		}
	}, nil
}
