package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// exportQuery is what is asked of an export.
type exportQuery struct {
	format export.Format
	proof  bool
	wanted audit.Part
}

func (h *Handler) exportEvents(ctx context.Context, c call) (reply, error) {
	q, err := h.readExport(ctx, &c)
	if err != nil {
		return nil, err
	}
	if c.r.Method == http.MethodHead { // how long it would be nobody knows
		return func(w http.ResponseWriter, _ *http.Request) { announce(w, q.format.MediaType) }, nil
	}
	event := c.by.Event(h.cfg.Now(), c.tenant, audit.Exported, audit.Target{Type: audit.TypeOrganization, ID: c.tenant.String()}).About(c.by.AgentID).
		With(audit.Details{}.String("format", q.format.Name).Bool("proof", q.proof).Bool("all", q.wanted.Organization == uuid.Nil))
	if err := h.cfg.Log.Append(ctx, event); err != nil {
		return nil, err
	}
	audit.Receive(ctx, event)
	return func(w http.ResponseWriter, r *http.Request) { h.stream(w, r, q) }, nil
}

func (h *Handler) readExport(ctx context.Context, c *call) (exportQuery, error) {
	name := oneOf(c.query, "format", export.Names()...)
	if name == "" {
		name = export.NDJSON
	}
	q := exportQuery{proof: c.query.flag("proof"), wanted: audit.Part{From: c.query.moment("from"), To: c.query.moment("to")}}
	q.wanted.After, _ = c.query.count("after")
	all := c.query.flag("all")
	if q.proof && name != export.NDJSON {
		c.wrong("proof", "format", "goes with the format ndjson alone")
	}
	if all && len(c.query.values["organizationId"]) > 0 {
		c.wrong("all", "exclusive", "does not go with organizationId")
	}
	if r := q.wanted; !r.From.IsZero() && !r.To.IsZero() && r.To.Before(r.From) {
		c.wrong("to", "minimum", "must not lie before from")
	}
	if all {
		if err := authorize(c.by, scope.OrganizationsAdmin); err != nil {
			return q, err
		}
	}
	if err := c.accept(ctx, nil); err != nil {
		return q, err
	}
	if !all {
		q.wanted.Organization = c.tenant
	} else {
		c.tenant = organization.DefaultID()
	}
	var err error
	q.format, err = export.New(name, h.cfg.Version)
	return q, err
}

// stream writes the export. One that fails half-way is broken off, so that nobody takes
// it for a whole one.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, q exportQuery) {
	s := &exportWriter{streamWriter: newStreamWriter(w, q.format.MediaType), format: q.format}
	s.serve(r, func(ctx context.Context) error { return h.writeExport(ctx, s, q) })
}

func (h *Handler) writeExport(ctx context.Context, s *exportWriter, q exportQuery) error {
	if q.proof {
		return h.cfg.Transparency.Walk(ctx, h.cfg.Log, q.wanted, s)
	}
	s.buffer = q.format.AppendHeader(s.buffer)
	newest, _, err := h.cfg.Transparency.Present(ctx)
	if err != nil {
		return err
	}
	const step = 2048
	for r := q.wanted; r.After < newest.Size; r.After = r.UpTo {
		r.UpTo = min(r.After+step, newest.Size)
		events, err := h.cfg.Log.Stored(ctx, r)
		if err != nil {
			return err
		}
		for _, e := range events {
			if s.buffer, err = q.format.Append(s.buffer, export.Entry{Sequence: e.Sequence, Body: e.Body}); err != nil {
				return err
			}
			if err := s.full(); err != nil {
				return err
			}
		}
	}
	return nil
}

// exportWriter writes an export as it comes; it is also shown one with proofs
// (transparency.Visitor).
type exportWriter struct {
	*streamWriter
	format export.Format
}

// Event writes an event. What is not an event any more is shown as a leaf that is
// missing, for the reader to ask why.
func (s *exportWriter) Event(e audit.Stored, leaf tlog.Hash) error {
	var err error
	s.buffer, err = export.AppendProven(s.buffer, export.Entry{Sequence: e.Sequence, Body: e.Body}, leaf)
	if errors.Is(err, export.ErrBody) {
		return s.Subtree(e.Sequence-1, e.Sequence, leaf)
	}
	if err != nil {
		return err
	}
	return s.full()
}

// Subtree writes what stands for events that are not shown.
func (s *exportWriter) Subtree(from, to int64, root tlog.Hash) error {
	s.buffer = export.AppendSubtree(s.buffer, from, to, root)
	return s.full()
}

// Checkpoint writes a checkpoint of all that came before.
func (s *exportWriter) Checkpoint(signed []byte) error {
	s.buffer = export.AppendCheckpoint(s.buffer, signed)
	return s.full()
}
