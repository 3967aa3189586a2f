package app

import (
	"context"

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
