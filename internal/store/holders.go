package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

// Holder gives an agent and its live credentials.
func (s *Store) Holder(ctx context.Context, organization, agentID uuid.UUID) (credential.Holder, []credential.Credential, error) {
	a, err := s.agent(ctx, s.read, organization, agentID, "")
	if err != nil {
		return credential.Holder{}, nil, err
	}
	h := holder(a)
	if h.Policy, err = s.rotationPolicy(ctx, s.read, organization, a.Type); err != nil {
		return credential.Holder{}, nil, err
	}
	live, err := s.liveCredentials(ctx, s.read, agentID)
	return h, live, err
}

func holder(a agent.Agent) credential.Holder {
	return credential.Holder{
		AgentID: a.ID, OrganizationID: a.OrganizationID, AgentType: a.Type, Status: string(a.Status), Ended: a.Status.Ended(), Capabilities: a.Capabilities,
	}
}

// liveCredentials leaves out what expired so long ago that nothing it obtained can
// live any more, however many of those there are.
func (s *Store) liveCredentials(ctx context.Context, q querier, agentID uuid.UUID) ([]credential.Credential, error) {
	live, err := list(ctx, s, q, scanCredential, "SELECT "+credentialColumns+` FROM credentials c
		WHERE c.agent_id = $1 AND c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > $2)`, agentID, time.Now().Add(-credential.Forgotten))
	if err != nil {
		return nil, broken("reading credentials", err)
	}
	return live, nil
}
