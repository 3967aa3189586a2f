package transparency

import (
	"context"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// TileHeight is how many levels of the tree one tile spans (C2SP tlog-tiles).
const TileHeight = 8

// ErrLost says that another node has grown the tree, or has the right to.
var ErrLost = errors.New("another node grows the tree")

// ErrGap says that an event is missing that was committed and is not in the tree yet.
var ErrGap = errors.New("a committed event is missing from the record")

// Tree is what the log stands at.
type Tree struct {
	// Head is the sequence of the newest committed event.
	Head int64
	// Size is how many events are in the tree.
	Size int64
	// Checkpoint is the signed checkpoint of Size, nil before the first.
	Checkpoint []byte
	// Published is the newest checkpoint that readers may see, and PublishedSize its
	// size: the same where no witness has to sign first.
	Published     []byte
	PublishedSize int64
	// Term counts how often the right to grow the tree was taken, or renewed; Holder is
	// the node that has it, empty where it was given back.
	Term   int64
	Holder string
}

// published reports whether readers see the newest checkpoint.
func (t Tree) published() bool { return t.Published != nil && t.PublishedSize == t.Size }

// Growth is one step of the tree.
type Growth struct {
	// Tiles are the tiles that are new or wider than before, and Data their hashes.
	Tiles []tlog.Tile
	Data  [][]byte
	Size  int64
	// Checkpoint is the signed checkpoint of Size.
	Checkpoint []byte
	// Publish says that readers may see it at once, nil where witnesses sign it first.
	Publish *Publication
}

// Publication is a checkpoint that readers may see.
type Publication struct {
	Size       int64
	Checkpoint []byte
	// Remember says to keep it for good; At is when it was signed.
	Remember bool
	At       time.Time
}

// StoredKey is the log's key as the database keeps it.
type StoredKey struct {
	// Origin is the log's name; it is fixed when the log begins.
	Origin string
	// Verifier is the public key as a C2SP verifier key.
	Verifier string
	// Sealed is the private key, encrypted.
	Sealed []byte
}

// KeyStore keeps the log's key.
type KeyStore interface {
	// EnsureLogKey stores the key where there is none, and gives the one that is
	// stored.
	EnsureLogKey(ctx context.Context, create func() (StoredKey, error)) (StoredKey, error)
	// ResealLogKey replaces the sealed form of the key.
	ResealLogKey(ctx context.Context, sealed []byte) error
}

// TileStore reads the tree.
type TileStore interface {
	// Tree reads what the log stands at.
	Tree(ctx context.Context) (Tree, error)
	// Tiles gives the hashes of tiles, in the order asked for; what is stored of one
	// may be wider than asked, or nil where there is nothing.
	Tiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error)
	// Checkpoints gives the checkpoints that were kept for good, of sizes after the one
	// and up to the other, in order.
	Checkpoints(ctx context.Context, after, upTo int64) ([]Publication, error)
}

// Store keeps the tree.
type Store interface {
	TileStore
	// SeizeTree gives the right to grow the tree to the node, under the next term; it
	// fails with ErrLost where the term is no longer the one that was seen.
	SeizeTree(ctx context.Context, term int64, holder string) error
	// ReleaseTree gives the right back, where the node has it under the term.
	ReleaseTree(ctx context.Context, term int64, holder string) error
	// Leaves gives the leaf hashes of the events after the sequence, in order, at
	// most limit. It fails with ErrGap where one of them is missing.
	Leaves(ctx context.Context, after int64, limit int) ([]tlog.Hash, error)
	// GrowTree writes one step in one transaction. It fails with ErrLost where the
	// term, or the size, is no longer that of from.
	GrowTree(ctx context.Context, from Tree, g Growth) error
	// PublishCheckpoint lets readers see a checkpoint, unless they see one of a larger
	// tree already.
	PublishCheckpoint(ctx context.Context, p Publication) error
}
