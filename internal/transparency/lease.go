package transparency

import (
	"context"
	"time"
)

// due reports whether the right to grow the tree is to be taken: nobody has it, or who
// has it has neither used it while there were events, nor renewed it.
func (s *Sequencer) due(tree Tree) bool {
	if tree.Holder == "" {
		return true
	}
	same := tree.Size == s.watched.Size && tree.Term == s.watched.Term
	if !same {
		s.changed = time.Now()
	}
	if !same || tree.Head == tree.Size || s.watched.Head == s.watched.Size {
		s.watched, s.since = tree, time.Now()
	}
	return time.Since(s.since) > s.cfg.Patience || time.Since(s.changed) > missed*s.cfg.Renew
}

// seize takes the right to grow the tree, under the next term.
func (s *Sequencer) seize(ctx context.Context, tree *Tree) error {
	if err := s.cfg.Store.SeizeTree(ctx, tree.Term, s.name); err != nil {
		return err
	}
	tree.Term, tree.Holder, s.changed = tree.Term+1, s.name, time.Now()
	return nil
}

func (s *Sequencer) lead(leading bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leading = leading
}
