package postgres_test

import (
	"fmt"
	"os"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/pgtest"
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

// open gives a store on a database of its own.
func open(t *testing.T) *store.Store {
	t.Helper()
	url := secret.New(server.Database(t))
	if err := postgres.Migrate(t.Context(), url, ""); err != nil {
		t.Fatal(err)
	}
	s, err := postgres.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.Store
}

// TestTheSuite runs what every engine must pass (R6).
func TestTheSuite(t *testing.T) { storetest.Run(t, open) }
