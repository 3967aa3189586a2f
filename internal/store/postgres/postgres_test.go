package postgres_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/pgtest"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
	"git.sentryagent.ai/sentryagent-idp/internal/store/postgres"
	"git.sentryagent.ai/sentryagent-idp/internal/store/storetest"
)

// server is the PostgreSQL of this package's tests.
var server *pgtest.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = pgtest.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	server.Stop()
	os.Exit(code)
}

// TestTheSuite runs what every engine must pass (R6).
func TestTheSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.Store {
		t.Helper()
		return open(t, migrated(t, server)).Store
	})
}

// migrated gives the URL of a database that has the schema.
func migrated(t *testing.T, server *pgtest.Server) string {
	t.Helper()
	url := server.Database(t)
	if err := postgres.Migrate(t.Context(), secret.New(url), ""); err != nil {
		t.Fatal(err)
	}
	return url
}

// open gives a store on a database, closed with the test.
func open(t *testing.T, url string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), secret.New(url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// raw opens the database beside the store.
func raw(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func one[T any](t *testing.T, db *sql.DB, query string) T {
	t.Helper()
	var v T
	if err := db.QueryRowContext(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

// draft makes an agent with a credential and the event of its making.
func draft() (agent.Agent, credential.Credential, audit.Event) {
	now, org := time.Now().UTC().Truncate(time.Microsecond), organization.DefaultID()
	a := agent.Agent{
		ID: uuid.New(), OrganizationID: org, Email: uuid.NewString() + "@example.com", Type: "reader", Version: "v1.0.0",
		Capabilities: scope.New("files:read"), Owner: "platform", DeploymentEnv: "production", Status: agent.Active,
		Metadata: json.RawMessage("{}"), CreatedAt: now, UpdatedAt: now, Revision: 1,
	}
	c := credential.Credential{
		ID: uuid.New(), AgentID: a.ID, OrganizationID: org, KeyID: uuid.NewString(),
		Verifier: credential.Verifier{Fingerprint: []byte("f"), FingerprintKeyID: "k"}, CreatedAt: now, Revision: 1,
	}
	return a, c, event(now, audit.AgentCreated, a.ID)
}

func event(now time.Time, action audit.Action, about uuid.UUID) audit.Event {
	return audit.System("test").Event(now, organization.DefaultID(), action, audit.Target{Type: audit.TypeAgent, ID: about.String()}).About(about)
}

// register stores one agent.
func register(t *testing.T, s *store.Store) (agent.Agent, credential.Credential) {
	t.Helper()
	a, c, e := draft()
	if err := s.CreateAgent(t.Context(), a, c, e); err != nil {
		t.Fatal(err)
	}
	return a, c
}

// use is the record of a token for the agent, decided on its first revisions.
func use(a agent.Agent, c credential.Credential) audit.Record {
	return audit.Record{
		Event: event(time.Now(), audit.TokenIssued, a.ID),
		Basis: &audit.Basis{AgentID: a.ID, AgentRevision: 1, CredentialID: c.ID, CredentialRevision: 1},
	}
}
