package store

import (
	"context"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

// Holder gives an agent and its live credentials.
func (s *Store) Holder(ctx context.Context, organization, agentID uuid.UUID) (credential.Holder, []credential.Credential, error) {
	a, err := s.agent(ctx, s.read, organization, agentID, "")
	if err != nil {
		return credential.Holder{}, nil, err
	}
	live, err := list(ctx, s, s.read, scanCredential, "SELECT "+credentialColumns+" FROM credentials c WHERE c.agent_id = $1 AND c.revoked_at IS NULL", agentID)
	if err != nil {
		return credential.Holder{}, nil, broken("reading credentials", err)
	}
	return credential.Holder{
		AgentID: a.ID, OrganizationID: a.OrganizationID, Status: string(a.Status), Ended: a.Status.Ended(), Capabilities: a.Capabilities,
	}, live, nil
}
