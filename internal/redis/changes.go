package redis

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

// changes is the channel on which nodes tell each other of changes. A message is
// the key ids of the credentials of which what is remembered may be out of date,
// separated by blanks.
const changes = "agentidp:changes"

// maxMessage bounds a message, in bytes: room for the key ids of an agent's live
// credentials and many that have expired. What is longer is not told.
const maxMessage = 16 * 200

// Agents is an agent.Store that tells all nodes of each change.
type Agents struct {
	agent.Store
	credentials credential.Store
	client      *Client
}

// NewAgents wraps a store; credentials knows the key ids of its agents.
func NewAgents(store agent.Store, credentials credential.Store, client *Client) *Agents {
	return &Agents{Store: store, credentials: credentials, client: client}
}

// UpdateAgent is that of the store. What cannot be told is not an error: a node
// that heard nothing finds out when it commits.
func (s *Agents) UpdateAgent(ctx context.Context, organization, id uuid.UUID, change func(*agent.Agent) (audit.Event, error)) (agent.Agent, error) {
	changed := false
	a, err := s.Store.UpdateAgent(ctx, organization, id, func(a *agent.Agent) (audit.Event, error) {
		event, err := change(a)
		changed = err == nil
		return event, err
	})
	if err != nil || !changed {
		return a, err
	}
	// The change is made, whether or not its caller is still there.
	ctx = context.WithoutCancel(ctx)
	if _, held, err := s.credentials.Holder(ctx, organization, id); err == nil {
		s.client.tell(ctx, held)
	}
	return a, nil
}

// Credentials is a credential.Store that tells all nodes of each change.
type Credentials struct {
	credential.Store
	client *Client
}

// NewCredentials wraps a store.
func NewCredentials(store credential.Store, client *Client) *Credentials {
	return &Credentials{Store: store, client: client}
}

// ChangeCredentials is that of the store. What cannot be told is not an error, as
// with UpdateAgent.
func (s *Credentials) ChangeCredentials(ctx context.Context, organization, agentID uuid.UUID,
	change func(credential.Holder, []credential.Credential) ([]credential.Credential, audit.Event, error),
) error {
	var written []credential.Credential
	err := s.Store.ChangeCredentials(ctx, organization, agentID, func(h credential.Holder, live []credential.Credential) ([]credential.Credential, audit.Event, error) {
		var event audit.Event
		var err error
		written, event, err = change(h, live)
		return written, event, err
	})
	if err == nil {
		s.client.tell(ctx, written)
	}
	return err
}

// tell tells all nodes that the credentials were changed.
func (c *Client) tell(ctx context.Context, changed []credential.Credential) {
	keyIDs := make([]string, 0, len(changed))
	for _, one := range changed {
		keyIDs = append(keyIDs, one.KeyID)
	}
	if len(keyIDs) == 0 {
		return
	}
	// A lost message costs a node one more commit, and nothing else.
	_, _ = c.ask(ctx, func(ctx context.Context, r rueidis.Client) rueidis.RedisResult {
		return r.Do(ctx, r.B().Publish().Channel(changes).Message(strings.Join(keyIDs, " ")).Build())
	})
}

// Listen calls forget with each key id of which what is remembered may be out of
// date, until ctx is done; then it gives nil. It fails where Redis is lost, and may
// be called again.
func (c *Client) Listen(ctx context.Context, forget func(keyID string)) error {
	r, err := c.connected(ctx)
	if err == nil {
		err = r.Receive(ctx, r.B().Subscribe().Channel(changes).Build(), func(m rueidis.PubSubMessage) {
			for _, keyID := range parse(m.Message) {
				forget(keyID)
			}
		})
	}
	if ctx.Err() != nil {
		err = nil
	}
	return err
}

// parse reads a message. Anybody who reaches Redis may send one, so what is not
// wholly a message is none; the worst that a forged one does is to make a node read
// a row again.
func parse(message string) []string {
	if len(message) > maxMessage {
		return nil
	}
	keyIDs := strings.Split(message, " ")
	for _, keyID := range keyIDs {
		if !credential.IsKeyID(keyID) {
			return nil
		}
	}
	return keyIDs
}
