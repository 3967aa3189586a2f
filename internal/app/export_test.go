package app

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// NeverSequence keeps the record's tree from growing, so that a benchmark can tell what
// its growth costs. It is called before Run.
func (a *App) NeverSequence() { a.store = unsequenced{a.store} }

// unsequenced gives nobody the right to grow the tree.
type unsequenced struct{ database }

// SeizeTree says that another node was faster.
func (unsequenced) SeizeTree(context.Context, int64, string) error { return transparency.ErrLost }

// TreeSize gives how many events the record's tree has.
func (a *App) TreeSize(ctx context.Context) (int64, error) {
	tree, err := a.store.Tree(ctx)
	return tree.Size, err
}

// Serving gives what a listener would be served with, and commits what it records until
// the test ends.
func (a *App) Serving(t testing.TB, issuer string) http.Handler {
	t.Helper()
	if err := a.Ring.Ensure(t.Context(), audit.System("test")); err != nil {
		t.Fatal(err)
	}
	s, err := a.serverFor(t.Context(), issuer, "test")
	if err != nil {
		t.Fatal(err)
	}
	var committer sync.WaitGroup
	committer.Go(s.log.Run)
	t.Cleanup(func() {
		s.log.Close()
		committer.Wait()
	})
	return s.handler
}
