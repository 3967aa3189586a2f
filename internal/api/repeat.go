package api

import (
	"context"
	"crypto/sha256"
	"net/http"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/idempotency"
)

// idempotencyKey reads the header, empty where there is none.
func (c *call) idempotencyKey() string {
	lines := c.r.Header.Values("Idempotency-Key")
	if len(lines) == 0 {
		return ""
	}
	if len(lines) > 1 || !idempotency.ValidKey(lines[0]) {
		c.wrong("Idempotency-Key", "pattern", "must be one line of 1 to 128 visible ASCII characters")
		return ""
	}
	return lines[0]
}

// once makes something, or, where this caller's request under this key has made it
// already, answers with that again. What was secret is not known any more.
func (h *Handler) once(ctx context.Context, c call, key string, do func(context.Context) (reply, error), again func(context.Context, []uuid.UUID) (reply, error)) (reply, error) {
	if key == "" {
		return do(ctx)
	}
	asked := sha256.New()
	asked.Write([]byte(c.r.Method + " " + c.r.RequestURI + "\n"))
	asked.Write(c.body.raw)
	claim := idempotency.Claim{CallerID: c.by.AgentID, Key: key, At: h.cfg.Now().UTC()}
	asked.Sum(claim.Request[:0])
	made, err := h.cfg.Claims.Claimed(ctx, claim)
	if err != nil {
		return nil, err
	}
	if made == nil {
		answer, failed := do(idempotency.With(ctx, claim))
		if failed == nil {
			return answer, nil
		}
		// Another one of this request may have been faster.
		if made, err = h.cfg.Claims.Claimed(ctx, claim); err != nil || made == nil {
			return nil, failed
		}
	}
	first, err := again(ctx, made)
	if err != nil {
		return nil, err
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Idempotency-Replayed", "true")
		first(w, r)
	}, nil
}
