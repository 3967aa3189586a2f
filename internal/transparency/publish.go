package transparency

import (
	"context"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// publication says to keep a checkpoint for good where the last one that was kept is
// old.
func (s *Sequencer) publication(size int64, signed []byte) Publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := Publication{Size: size, Checkpoint: signed, At: s.cfg.Now()}
	if p.Remember = p.At.Sub(s.remembered).Abs() >= rememberEvery; p.Remember {
		s.remembered = p.At
	}
	return p
}

// cosign has the witnesses sign the newest checkpoint, beside the growth of the tree;
// while they are asked, newer ones wait.
func (s *Sequencer) cosign(ctx context.Context, tree Tree) {
	if s.cfg.Witnesses == nil || tree.Checkpoint == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking {
		return
	}
	if tree.published() { // by whomever
		s.withhold(ctx, tree, nil)
		return
	}
	s.asking = true
	ctx = context.WithoutCancel(ctx)
	s.pending.Go(func() {
		err := s.ask(ctx, tree)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asking = false
		s.withhold(ctx, tree, err)
	})
}

// withhold notes why a checkpoint could not be published, nil where it was. It is logged
// when that begins and when it ends; mu is held.
func (s *Sequencer) withhold(ctx context.Context, tree Tree, err error) {
	switch {
	case err != nil && s.withheld == nil:
		s.cfg.Logger.WarnContext(ctx, "a checkpoint is not published", "size", tree.Size, "error", err)
	case err == nil && s.withheld != nil:
		s.cfg.Logger.InfoContext(ctx, "checkpoints are published again", "size", tree.Size)
	}
	s.withheld = err
}

func (s *Sequencer) ask(ctx context.Context, tree Tree) error {
	ctx, cancel := context.WithTimeout(ctx, cosignTimeout)
	defer cancel()
	c, err := Open(tree.Checkpoint, s.cfg.Key.verifier)
	if err != nil {
		return err
	}
	signed, err := s.cfg.Witnesses.Gather(ctx, tree.Checkpoint, func(ctx context.Context, from, to int64) (tlog.TreeProof, error) {
		newer, err := c.at(ctx, s.cfg.Store, to)
		if err != nil {
			return nil, err
		}
		return consistency(ctx, s.cfg.Store, newer, from)
	})
	if err != nil {
		return err
	}
	return s.cfg.Store.PublishCheckpoint(ctx, s.publication(tree.Size, signed))
}

// left reports whether the newest checkpoint was signed a while ago and nobody has
// published it: who signed it may be gone, and without events nobody takes its place.
// Publishing needs no right to grow the tree.
func (s *Sequencer) left(tree Tree) bool {
	if tree.Checkpoint == nil || tree.published() || tree.Size != s.unpublished.Size || s.unpublished.Checkpoint == nil {
		s.unpublished, s.signedSince = tree, time.Now()
		return false
	}
	return time.Since(s.signedSince) > s.cfg.Patience
}
