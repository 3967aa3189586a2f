package redis_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/redis"
	"git.sentryagent.ai/sentryagent-idp/internal/redistest"
)

// listen gives the key ids that a node is told of.
func listen(t *testing.T, server *redistest.Server, client *redis.Client) <-chan string {
	t.Helper()
	heard := make(chan string, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = client.Listen(ctx, func(keyID string) { heard <- keyID })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	server.Until(t, "PUBSUB NUMSUB agentidp:changes", ":1")
	return heard
}

// Anybody who reaches Redis may send a message (R7).
func TestGarbageOnTheChannelIsIgnored(t *testing.T) {
	server := redistest.Start(t)
	heard := listen(t, server, open(t, server, &clock{}))
	for _, garbage := range []string{
		"x", "abcdefghijk", "abcdefghijkl,mnopqrstuvwx", "abcdefghijk!", "'abcdefghijkl '", "' abcdefghijkl'", "'abcdefghijkl  mnopqrstuvwx'", `"\x00\xff\xfe"`, "''",
		"'abcdefghijkl short'", "'" + strings.TrimSpace(strings.Repeat("abcdefghijkl ", 1000)) + "'", strings.Repeat("A", 32_000), `"\xc3\xa9bcdefghijk"`,
	} {
		if answer, err := server.Do("PUBLISH agentidp:changes " + garbage); err != nil || answer != ":1" {
			t.Fatalf("publishing %.40q: %q, %v", garbage, answer, err)
		}
	}
	if _, err := server.Do("PUBLISH agentidp:changes 'abcdefghijkl 0123456789AB'"); err != nil {
		t.Fatal(err)
	}
	if got := []string{<-heard, <-heard}; !slices.Equal(got, []string{"abcdefghijkl", "0123456789AB"}) {
		t.Errorf("heard %q, want the two key ids of the one message", got)
	}
}

type (
	agentStore      = agent.Store
	credentialStore = credential.Store
)

// store holds one agent with its credentials.
type store struct {
	agentStore
	credentialStore
	held []credential.Credential
	err  error
}

func (s *store) UpdateAgent(_ context.Context, _, _ uuid.UUID, change func(*agent.Agent) (audit.Event, error)) (agent.Agent, error) {
	var a agent.Agent
	if _, err := change(&a); err != nil && !errors.Is(err, agent.ErrUnchanged) {
		return a, err
	}
	return a, s.err
}

func (s *store) ChangeCredentials(_ context.Context, _, _ uuid.UUID,
	change func(credential.Holder, []credential.Credential) ([]credential.Credential, audit.Event, error),
) error {
	if _, _, err := change(credential.Holder{}, s.held); err != nil {
		return err
	}
	return s.err
}

func (s *store) Holder(context.Context, uuid.UUID, uuid.UUID) (credential.Holder, []credential.Credential, error) {
	return credential.Holder{}, s.held, nil
}

func TestChangesAreToldAndWhatWasNotWrittenIsNot(t *testing.T) {
	server := redistest.Start(t)
	client := open(t, server, &clock{})
	heard := listen(t, server, client)
	s := &store{held: []credential.Credential{{KeyID: "first0000000"}, {KeyID: "second000000"}}}
	agents, credentials := redis.NewAgents(s, s, client), redis.NewCredentials(s, client)
	refused := errors.New("refused")
	update := func(says error) {
		_, err := agents.UpdateAgent(t.Context(), uuid.Nil, uuid.Nil, func(*agent.Agent) (audit.Event, error) { return audit.Event{}, says })
		if want := errors.Join(says, s.err); (err != nil) != (want != nil && !errors.Is(says, agent.ErrUnchanged)) {
			t.Errorf("UpdateAgent gave %v, want %v", err, want)
		}
	}
	change := func(says error, changed ...credential.Credential) {
		err := credentials.ChangeCredentials(t.Context(), uuid.Nil, uuid.Nil, func(credential.Holder, []credential.Credential) ([]credential.Credential, audit.Event, error) {
			return changed, audit.Event{}, says
		})
		if (err != nil) != (errors.Join(says, s.err) != nil) {
			t.Errorf("ChangeCredentials gave %v, want %v or %v", err, says, s.err)
		}
	}
	update(refused)
	update(agent.ErrUnchanged)
	change(refused, s.held...)
	change(nil)
	s.err = errors.New("the commit failed")
	update(nil)
	change(nil, s.held...)
	s.err = nil
	update(nil)
	change(nil, credential.Credential{KeyID: "third0000000"})
	if got := []string{<-heard, <-heard, <-heard}; !slices.Equal(got, []string{"first0000000", "second000000", "third0000000"}) {
		t.Errorf("heard %q, want what was written alone", got)
	}
	server.Kill()
	update(nil)
	change(nil, s.held...)
	server.Run(t)
}

// As many credentials as are listed make a message that is not too long.
func TestTheLargestChangeIsHeard(t *testing.T) {
	server := redistest.Start(t)
	client := open(t, server, &clock{})
	heard := listen(t, server, client)
	s := &store{held: slices.Repeat([]credential.Credential{{KeyID: "first0000000"}}, 200)}
	agents := redis.NewAgents(s, s, client)
	if _, err := agents.UpdateAgent(t.Context(), uuid.Nil, uuid.Nil, func(*agent.Agent) (audit.Event, error) { return audit.Event{}, nil }); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		<-heard
	}
}

func TestListeningEndsWhereRedisIsLostAndBeginsAnew(t *testing.T) {
	server := redistest.Start(t)
	client := open(t, server, &clock{})
	var heard atomic.Int64
	ended := make(chan error, 1)
	again := func() {
		ended <- client.Listen(t.Context(), func(string) { heard.Add(1) })
	}
	go again()
	server.Until(t, "PUBSUB NUMSUB agentidp:changes", ":1")
	server.Kill()
	if err := <-ended; err == nil {
		t.Error("listening ended without an error")
	}
	if err := client.Listen(t.Context(), nil); err == nil {
		t.Error("one can listen though Redis is away")
	}
	server.Run(t)
	go again()
	server.Until(t, "PUBSUB NUMSUB agentidp:changes", ":1")
	client.Close()
	if err := <-ended; err == nil {
		t.Error("a closed client listens")
	}
}
