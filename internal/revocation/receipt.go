package revocation

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/keys"
)

// ReceiptType is the typ header of a receipt. No access token has it, and a receipt has
// neither sub nor exp, so that nobody takes one for the other (RFC 8725 §3.11, §3.12).
const ReceiptType = "revocation-receipt+jwt"

// receiptClaims is what a receipt says (RFC 7519).
type receiptClaims struct {
	Issuer   string `json:"iss"`
	IssuedAt int64  `json:"iat"`
	ID       string `json:"jti"`
	// What is from here on is our own.
	Organization string           `json:"org"`
	Revocation   receiptStatement `json:"revocation"`
	// Event is the id of the event in the record, which can be proved for good.
	Event string `json:"event"`
}

type receiptStatement struct {
	Action   Action    `json:"action"`
	Selector *Selector `json:"selector,omitempty"`
	Undoes   string    `json:"undoes,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	By       string    `json:"by"`
	At       string    `json:"at"`
	Matched  int64     `json:"matched"`
	Changed  int64     `json:"changed"`
}

// receipt signs what was asked and decided, with the key that signs tokens.
func (s *Service) receipt(j Job, event uuid.UUID) (string, error) {
	c := receiptClaims{
		Issuer: s.cfg.Issuer, IssuedAt: j.CreatedAt.Unix(), ID: j.ID.String(), Organization: j.OrganizationID.String(), Event: event.String(),
		Revocation: receiptStatement{
			Action: j.Action, Reason: j.Reason, By: j.By.Actor.ID, At: j.CreatedAt.Format("2006-01-02T15:04:05.000000Z"),
			Matched: j.Matched, Changed: j.Changed,
		},
	}
	if j.Undoes != uuid.Nil {
		c.Revocation.Undoes = j.Undoes.String()
	} else {
		c.Revocation.Selector = &j.Selector
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("making a receipt: %w", err)
	}
	signer, err := s.cfg.Signers.Signer(j.CreatedAt)
	if err != nil {
		return "", err
	}
	return keys.SignCompact(signer, ReceiptType, payload)
}
