package api

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// How long what the log publishes may be kept: a checkpoint is soon old, what lies
// within the tree never changes.
const (
	keepNever   = "no-cache"
	keepForever = "public, max-age=31536000, immutable"
)

// proofView is a proof as the API shows it (RFC 6962 §2.1.1).
type proofView struct {
	Leaf       []byte      `json:"leaf"`
	LeafIndex  int64       `json:"leafIndex"`
	TreeSize   int64       `json:"treeSize"`
	Hashes     []tlog.Hash `json:"hashes"`
	Checkpoint string      `json:"checkpoint"`
}

func (h *Handler) proveEvent(ctx context.Context, c call) (reply, error) {
	e, err := h.event(ctx, &c)
	if err != nil {
		return nil, err
	}
	// The bytes as they are stored, and not as they would be written now.
	stored, err := h.cfg.Log.Stored(ctx, audit.Part{Organization: c.tenant, After: e.Sequence - 1, UpTo: e.Sequence})
	if err != nil {
		return nil, err
	}
	if len(stored) == 0 {
		return nil, fault.New(fault.NotFound, fault.CodeNotFound, "there is no such audit event")
	}
	p, err := h.cfg.Transparency.Inclusion(ctx, e.Sequence)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, proofView{
		Leaf: stored[0].Body, LeafIndex: p.LeafIndex, TreeSize: p.TreeSize, Hashes: listed(p.Hashes), Checkpoint: string(p.Checkpoint),
	}), nil
}

// listed is never null in JSON.
func listed(hashes []tlog.Hash) []tlog.Hash { return append([]tlog.Hash{}, hashes...) }

func (h *Handler) checkpoint(ctx context.Context, c call) (reply, error) {
	if err := c.refusal(); err != nil {
		return nil, err
	}
	signed, err := h.cfg.Transparency.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return content("text/plain; charset=utf-8", keepNever, signed), nil
}

func (h *Handler) checkpointKey(_ context.Context, c call) (reply, error) {
	if err := c.refusal(); err != nil {
		return nil, err
	}
	return content("text/plain; charset=utf-8", keepNever, []byte(h.cfg.Transparency.Verifier()+"\n")), nil
}

type consistencyView struct {
	From   int64       `json:"from"`
	To     int64       `json:"to"`
	Hashes []tlog.Hash `json:"hashes"`
}

func (h *Handler) proveConsistency(ctx context.Context, c call) (reply, error) {
	from, named := c.query.count("from")
	if !named {
		c.wrong("from", "required", "is required")
	}
	to, named := c.query.count("to")
	if !named {
		to = -1 // the newest
	}
	if err := c.refusal(); err != nil {
		return nil, err
	}
	p, err := h.cfg.Transparency.Consistency(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return answer(http.StatusOK, consistencyView{From: p.From, To: p.To, Hashes: listed(p.Hashes)}), nil
}

// maxLevel is the highest level of tiles: 2^64 events need no more. maxIndex bounds the
// text of an index; the library's numbers wrap around for longer ones.
const (
	maxLevel = 7
	maxIndex = len("x999/x999/x999/x999/999.p/255")
)

// tile reads the path of a tile (C2SP tlog-tiles).
func (c *call) tile(level string) (tlog.Tile, error) {
	index := c.r.PathValue("index")
	t, err := tlog.ParseTilePath("tile/8/" + level + "/" + index)
	switch {
	case err == nil && t.L <= maxLevel && len(index) <= maxIndex:
	case len(level) == 1 && '0' <= level[0] && level[0] <= '0'+maxLevel || level == bodies:
		c.wrong("index", "pattern", "must be the index of a tile, such as 067, x001/067 or 000.p/5")
	default:
		c.wrong("level", "pattern", "must be a level from 0 to 7")
	}
	return t, c.refusal()
}

// bodies is the level of what stands for the events themselves, in the library's words.
const bodies = "data"

func (h *Handler) tile(ctx context.Context, c call) (reply, error) {
	level := c.r.PathValue("level")
	if level == bodies {
		level = "" // that is another operation
	}
	t, err := c.tile(level)
	if err != nil {
		return nil, err
	}
	data, err := h.cfg.Transparency.Tile(ctx, t)
	if err != nil {
		return nil, err
	}
	return content("application/octet-stream", keepForever, data), nil
}

func (h *Handler) entries(ctx context.Context, c call) (reply, error) {
	if err := c.by.Require(scope.AuditRead); err != nil {
		return nil, err
	}
	t, err := c.tile(bodies)
	if err != nil {
		return nil, err
	}
	data, err := h.cfg.Transparency.Bundle(ctx, h.cfg.Log, t)
	if err != nil {
		return nil, err
	}
	return content("application/octet-stream", "no-store", data), nil
}

// content answers with something that is not JSON.
func content(mediaType, keep string, body []byte) reply {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Cache-Control", keep)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		if _, err := w.Write(body); err != nil {
			request.Note(r.Context(), slog.String("write", err.Error()))
		}
	}
}
