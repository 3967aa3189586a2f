package oauth

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// rotatedBody names what it gives as RFC 7591 §3.2.1 does.
type rotatedBody struct {
	ClientID     uuid.UUID `json:"client_id"`
	ClientSecret string    `json:"client_secret"`
	ExpiresAt    int64     `json:"client_secret_expires_at"`
	CredentialID uuid.UUID `json:"credential_id"`
}

// rotate gives a client the successor of the secret that it authenticates with (R36).
// Nothing of the secret is kept: whoever loses the answer asks again.
func (h *Handler) rotate(ctx context.Context, headers http.Header, r *http.Request, f form) (answer, error) {
	p, err := readClient(r, f)
	if err != nil {
		return nil, h.denied(ctx, audit.AuthorizationDenied, "", err)
	}
	m, err := h.cfg.Verifier.Now(ctx)
	if err != nil {
		return nil, err
	}
	check := func(ctx context.Context, clientID string, presented secret.Value, source string) (*token.Entry, error) {
		return h.cfg.Authenticator.AuthenticateAt(ctx, m, clientID, presented, source)
	}
	for attempt := range maxAttempts {
		client, err := h.authenticate(ctx, p, check)
		if err != nil {
			return nil, h.denied(ctx, audit.AuthorizationDenied, p.clientID, err)
		}
		noteClient(ctx, client)
		if attempt == 0 {
			if err := h.limited(ctx, headers, client); err != nil {
				return nil, err
			}
		}
		origin := request.Origin(ctx)
		origin.Actor = audit.Actor{Type: audit.TypeAgent, ID: client.AgentID}
		recorded, receipt := audit.WithReceipt(ctx)
		issued, err := h.cfg.Rotator.Rotate(recorded, origin, client.Agent.OrganizationID, client.Agent.ID, client.Credential.ID)
		if errors.Is(err, credential.ErrEnded) {
			check = h.cfg.Authenticator.AuthenticateAfresh // which says why
			continue
		}
		if errors.Is(err, credential.ErrNotRotatable) {
			if failed := h.refuse(ctx, client, audit.AuthorizationDenied, "not_rotatable", audit.Details{}.String("credentialId", client.Credential.ID.String())); failed != nil {
				return nil, failed
			}
			return nil, unauthorizedClient(err.Error())
		}
		if err != nil {
			return nil, err
		}
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Audit-Event-Id", receipt.ID().String())
			body := rotatedBody{ClientID: issued.AgentID, ClientSecret: issued.Secret.Value().Reveal(), CredentialID: issued.ID}
			if !issued.ExpiresAt.IsZero() {
				body.ExpiresAt = issued.ExpiresAt.Unix()
			}
			wire.JSON(w, r, http.StatusOK, body)
		}, nil
	}
	return nil, fault.UnavailableBecause(errors.New("the credential changes faster than it can be rotated"))
}
