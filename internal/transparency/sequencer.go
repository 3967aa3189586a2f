package transparency

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Witnesses cosign checkpoints.
type Witnesses interface {
	// Gather gives the signed checkpoint with their signatures, or an error where too
	// few signed.
	Gather(ctx context.Context, signed []byte, prove Prove) ([]byte, error)
}

// SequencerConfig is what a sequencer needs.
type SequencerConfig struct {
	Store Store
	Key   *Key
	// Witnesses must sign before a checkpoint is published; nil where there are none.
	Witnesses Witnesses
	Logger    *slog.Logger
	Now       func() time.Time

	// Poll is how often it looks for new events, Patience how long it waits for the
	// node that has the right to grow the tree to do so, Renew how often that node says
	// that it is there while there are no events; one that has not done so three times is
	// gone. Step is how many events one transaction takes in. Zero members get defaults.
	Poll, Patience, Renew time.Duration
	Step                  int
}

// Bounds of a sequencer.
const (
	defaultPoll     = 200 * time.Millisecond
	defaultPatience = 2 * time.Second
	defaultRenew    = 10 * time.Second
	defaultStep     = 8192
	// missed is how many renewals the node that has the right may miss.
	missed = 3
	// rememberEvery is how often a checkpoint is kept for good.
	rememberEvery = 5 * time.Minute
	// cosignTimeout bounds asking the witnesses, and leaveTimeout the last turn.
	cosignTimeout = 15 * time.Second
	leaveTimeout  = 10 * time.Second
)

// Sequencer puts committed events in order into the tree, and signs what it stands at.
// Any number of nodes may run one: the database says which of them has the right to
// grow the tree, under a term. It loses the right to another that has watched the tree
// stand still while there were events, or its term while there were none, as what else
// hangs on the right, such as the streams, must go on; no clock of two nodes is ever
// compared.
// That two try at once harms nothing: a step names the term and the size it was made
// for, and only one such step is written.
type Sequencer struct {
	cfg  SequencerConfig
	name string

	tree *growing // what this node grows; nil where it must be read first
	// watched is what the tree stood at when it was first seen so, at since; unpublished
	// and signedSince are the same for a checkpoint that nobody publishes.
	watched, unpublished Tree
	since, signedSince   time.Time
	// changed is when the size or the term was last seen to change, or was changed by
	// this node.
	changed time.Time

	mu      sync.Mutex
	leading bool
	failing error
	asking  bool
	// withheld is why the newest checkpoint could not be published, nil where it could.
	withheld error
	// remembered is when a checkpoint was last kept for good.
	remembered time.Time
	pending    sync.WaitGroup
}

// NewSequencer makes a sequencer of a node.
func NewSequencer(cfg SequencerConfig) *Sequencer {
	if cfg.Poll == 0 {
		cfg.Poll = defaultPoll
	}
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.Renew == 0 {
		cfg.Renew = defaultRenew
	}
	if cfg.Step == 0 {
		cfg.Step = defaultStep
	}
	return &Sequencer{cfg: cfg, name: uuid.NewString()}
}

// Run works until ctx is done, then takes in what is committed by then and gives the
// right to grow the tree to whoever wants it.
func (s *Sequencer) Run(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.Poll)
	defer ticker.Stop()
	for {
		s.turn(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			s.leave(context.WithoutCancel(ctx))
			return
		}
	}
}

// Leading reports whether this node was the one that grows the tree when it last
// looked.
func (s *Sequencer) Leading() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leading
}

// Settled reports whether this node grows the tree and, when it last looked, nothing kept
// readers from seeing that.
func (s *Sequencer) Settled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leading && s.failing == nil && s.withheld == nil
}

// Health gives what keeps the tree from growing, or from being published; nil where
// nothing does.
func (s *Sequencer) Health(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.failing, s.withheld)
}

// turn is step, whose failure is logged when it begins and when it ends.
func (s *Sequencer) turn(ctx context.Context) {
	err := s.step(ctx)
	if errors.Is(err, ErrLost) {
		err = nil // another node does it
	}
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	before := s.failing
	s.failing = err
	s.mu.Unlock()
	switch {
	case err != nil && before == nil:
		s.cfg.Logger.ErrorContext(ctx, "the record's tree does not grow", "error", err)
	case err == nil && before != nil:
		s.cfg.Logger.InfoContext(ctx, "the record's tree grows again")
	}
}

// step takes in every event there is, where this node may.
func (s *Sequencer) step(ctx context.Context) (err error) {
	tree, err := s.cfg.Store.Tree(ctx)
	if err != nil {
		return err
	}
	if tree.Holder != s.name {
		s.lead(false)
		if !s.due(tree) {
			if s.left(tree) || tree.published() {
				s.cosign(ctx, tree)
			}
			return nil
		}
		if err := s.seize(ctx, &tree); err != nil {
			return err
		}
		s.tree = nil
		s.cfg.Logger.InfoContext(ctx, "this node grows the record's tree", "term", tree.Term, "size", tree.Size)
	}
	s.lead(true)
	defer func() {
		if err != nil {
			s.tree = nil // what was written is not known
		}
	}()
	if s.tree == nil || s.tree.size != tree.Size {
		if s.tree, err = growingFrom(ctx, s.cfg.Store, tree.Size); err != nil {
			return err
		}
		if err := s.trusted(tree); err != nil {
			return err
		}
	}
	for tree.Head > tree.Size || tree.Checkpoint == nil {
		if tree, err = s.grow(ctx, tree); err != nil {
			return err
		}
	}
	s.cosign(ctx, tree)
	if time.Since(s.changed) > s.cfg.Renew {
		return s.seize(ctx, &tree) // from itself
	}
	return nil
}

// trusted sees to it that the tree that is stored is the one that was signed, before
// anything is added to it.
func (s *Sequencer) trusted(tree Tree) error {
	if tree.Checkpoint == nil {
		if tree.Size == 0 {
			return nil
		}
		return errors.New("the record's tree has lost its checkpoint")
	}
	signed, err := Open(tree.Checkpoint, s.cfg.Key.verifier)
	if err != nil {
		return err
	}
	root, err := s.tree.root()
	if err != nil {
		return err
	}
	if signed.Size != tree.Size || signed.Root != root {
		return fmt.Errorf("the record's tree is not the one of its checkpoint: size %d and root %s, signed were %d and %s", tree.Size, root, signed.Size, signed.Root)
	}
	return nil
}

// grow takes in the next events and gives what the tree stands at then.
func (s *Sequencer) grow(ctx context.Context, tree Tree) (Tree, error) {
	leaves, err := s.cfg.Store.Leaves(ctx, tree.Size, s.cfg.Step)
	if err != nil {
		return tree, err
	}
	if len(leaves) == 0 && tree.Checkpoint != nil {
		return tree, fmt.Errorf("%w: %d, and there are %d", ErrGap, tree.Size+1, tree.Head)
	}
	tiles, data, err := s.tree.add(leaves)
	if err != nil {
		return tree, err
	}
	root, err := s.tree.root()
	if err != nil {
		return tree, err
	}
	signed, err := s.cfg.Key.sign(Checkpoint{Origin: s.cfg.Key.Origin(), Size: s.tree.size, Root: root})
	if err != nil {
		return tree, err
	}
	g := Growth{Tiles: tiles, Data: data, Size: s.tree.size, Checkpoint: signed}
	if s.cfg.Witnesses == nil {
		p := s.publication(g.Size, signed)
		g.Publish = &p
		tree.Published, tree.PublishedSize = signed, g.Size
	}
	if err := s.cfg.Store.GrowTree(ctx, tree, g); err != nil {
		return tree, err
	}
	s.tree.settle(tiles, data)
	tree.Size, tree.Checkpoint, s.changed = g.Size, signed, time.Now()
	return tree, nil
}

// leave takes in what is left, and gives the right back.
func (s *Sequencer) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	s.turn(ctx)
	s.pending.Wait()
	tree, err := s.cfg.Store.Tree(ctx)
	if err == nil && tree.Holder == s.name {
		err = s.cfg.Store.ReleaseTree(ctx, tree.Term, s.name)
	}
	if err != nil {
		s.cfg.Logger.WarnContext(ctx, "giving back the right to grow the record's tree failed", "error", err)
	}
	s.lead(false)
}
