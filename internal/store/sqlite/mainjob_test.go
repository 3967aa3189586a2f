package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/store/sqlite"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
)

// TestTheMainJob follows one agent from its registration to its suspension, on
// the real store (R1 to R4).
func TestTheMainJob(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "agentidp.db")
	s, err := sqlite.Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	root, err := keys.NewRoot(keys.NewRootSecret(), secret.Value{})
	if err != nil {
		t.Fatal(err)
	}
	log := audit.NewLog(s, audit.Config{})
	done := make(chan struct{})
	go func() { defer close(done); log.Run() }()
	t.Cleanup(func() { log.Close(); <-done })
	ring := keys.NewRing(keys.Config{Store: s, Root: root, Alg: keys.ES256, MaxTokenTTL: time.Hour, Now: time.Now})
	if err := ring.Ensure(ctx, audit.System("test")); err != nil {
		t.Fatal(err)
	}
	directory, err := token.NewDirectory(s, 100)
	if err != nil {
		t.Fatal(err)
	}
	hasher := credential.NewHasher(root, credential.HMAC, time.Now)
	agents := agent.NewService(s, credential.NewMinter(hasher, time.Now), time.Hour, time.Now)
	authenticator := token.NewAuthenticator(directory, hasher, s, time.Now)
	issuer := token.NewIssuer(token.IssuerConfig{Issuer: "http://idp.test", TTL: time.Hour, MaxTTL: time.Hour, Ring: ring, Log: log, Now: time.Now})
	verifier, err := token.NewVerifier(token.VerifierConfig{
		Issuer: "http://idp.test", Ring: ring, Directory: directory, Revocations: s, CacheEntries: 100, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}

	by := policy.Caller{Origin: audit.System("test"), OrganizationID: organization.DefaultID(), Scopes: scope.Management()}
	a, issued, err := agents.Create(ctx, by, organization.DefaultID(), agent.Draft{
		Email: "Reader-001@sentryagent.ai", Type: "reader", Version: "v1.0.0", Capabilities: []string{"files:read"}, Owner: "platform", DeploymentEnv: "production",
	})
	if err != nil {
		t.Fatal(err)
	}
	get := func() (token.Issued, *token.Entry, error) {
		e, err := authenticator.Authenticate(ctx, a.ID.String(), issued.Secret.Value(), "192.0.2.1")
		if err != nil {
			return token.Issued{}, nil, err
		}
		got, err := issuer.Issue(ctx, token.Grant{Entry: e, Scope: scope.New("files:read")})
		return got, e, err
	}
	tok, entry, err := get()
	if err != nil {
		t.Fatal(err)
	}
	verified, err := verifier.Verify(ctx, tok.Token)
	if err != nil || verified.AgentID != a.ID || !verified.Scope.Has("files:read") {
		t.Fatalf("Verify = %+v, %v; want the agent's token", verified, err)
	}

	if _, err := agents.Suspend(ctx, by, organization.DefaultID(), a.ID, "compromised"); err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(ctx, tok.Token); !errors.Is(err, token.ErrInactive) {
		t.Errorf("the token of a suspended agent: %v, want ErrInactive", err)
	}
	// What was authenticated before the suspension is refused at the commit.
	if _, err := issuer.Issue(ctx, token.Grant{Entry: entry, Scope: scope.New("files:read")}); !errors.Is(err, audit.ErrStale) {
		t.Errorf("a token on a remembered agent: %v, want ErrStale", err)
	}
	var denial *token.Denial
	if _, _, err := get(); err != nil && !errors.As(err, &denial) && !errors.Is(err, audit.ErrStale) {
		t.Errorf("a token for a suspended agent: %v", err)
	} else if err == nil {
		t.Error("a suspended agent got a token")
	}
	if _, err := agents.Reactivate(ctx, by, organization.DefaultID(), a.ID, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(ctx, tok.Token); !errors.Is(err, token.ErrInactive) {
		t.Errorf("a token from before the suspension: %v, want it dead for good", err)
	}

	events, err := log.Events(ctx, organization.DefaultID(), audit.Filter{AgentID: a.ID}, page.Query{Limit: 50})
	if err != nil {
		t.Fatal(err)
	}
	var actions []audit.Action
	for _, e := range events.Items {
		actions = append(actions, e.Action)
	}
	if len(actions) != 5 || actions[0] != audit.AgentReactivated || actions[1] != audit.AgentSuspended || actions[2] != audit.TokenIssued {
		t.Errorf("the record says %v", actions)
	}
	refusesTampering(ctx, t, path)
}

// refusesTampering tries to rewrite the record with SQL (R4).
func refusesTampering(ctx context.Context, t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		"INSERT INTO audit_key VALUES (1, 'o', 'v', x'00')", "INSERT INTO audit_tiles VALUES (0, 0, zeroblob(64))",
		"INSERT INTO audit_checkpoints VALUES (2, x'00', 0)", "UPDATE audit_tree SET size = 2, published_size = 1, term = 1",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, statement := range []string{
		"UPDATE audit_key SET origin = 'x'", "UPDATE audit_key SET verifier = 'x'", "DELETE FROM audit_key", "INSERT OR REPLACE INTO audit_key VALUES (1, 'x', 'y', x'00')",
		"UPDATE audit_tree SET size = 1", "UPDATE audit_tree SET published_size = 0", "UPDATE audit_tree SET published_size = 3", "UPDATE audit_tree SET term = 0", "DELETE FROM audit_tree",
		"UPDATE audit_tiles SET n = 1", "UPDATE audit_tiles SET hashes = zeroblob(32)", "UPDATE audit_tiles SET hashes = randomblob(96)", "DELETE FROM audit_tiles", "INSERT OR REPLACE INTO audit_tiles VALUES (0, 0, randomblob(64))",
		"UPDATE audit_checkpoints SET at = 1", "DELETE FROM audit_checkpoints", "INSERT OR REPLACE INTO audit_checkpoints VALUES (2, x'01', 0)",
		"UPDATE audit_events SET action = 'x'", "DELETE FROM audit_events", "UPDATE audit_head SET sequence = 0", "DELETE FROM audit_head",
		"INSERT OR REPLACE INTO audit_events SELECT * FROM audit_events",
	} {
		if _, err := db.ExecContext(ctx, statement); err == nil {
			t.Errorf("%s was carried out", statement)
		}
	}
}
