package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// EnsureLogKey stores the log's key where there is none, and gives the stored one.
func (s *Store) EnsureLogKey(ctx context.Context, create func() (transparency.StoredKey, error)) (transparency.StoredKey, error) {
	k, err := s.logKey(ctx)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return k, err
	}
	if k, err = create(); err != nil {
		return k, err
	}
	rows := giving("origin text", "verifier text", "sealed bytea")
	rows.add(k.Origin, k.Verifier, k.Sealed)
	clause, args := s.with(rows)
	if _, err := s.exec(ctx, s.write, clause+`INSERT INTO audit_key (id, origin, verifier, sealed) SELECT 1, origin, verifier, sealed FROM given
		WHERE NOT EXISTS (SELECT 1 FROM audit_key) ON CONFLICT (id) DO NOTHING`, args...); err != nil {
		return k, broken("storing the log's key", err)
	}
	return s.logKey(ctx) // another node may have been faster
}

func (s *Store) logKey(ctx context.Context) (transparency.StoredKey, error) {
	var k transparency.StoredKey
	err := s.row(ctx, s.read, "SELECT origin, verifier, sealed FROM audit_key").Scan(&k.Origin, &k.Verifier, &k.Sealed)
	if err != nil {
		return k, broken("reading the log's key", err)
	}
	return k, nil
}

// ResealLogKey replaces how the log's key is sealed.
func (s *Store) ResealLogKey(ctx context.Context, sealed []byte) error {
	if _, err := s.exec(ctx, s.write, "UPDATE audit_key SET sealed = $1", sealed); err != nil {
		return broken("sealing the log's key anew", err)
	}
	return nil
}

// Tree reads what the log stands at.
func (s *Store) Tree(ctx context.Context) (transparency.Tree, error) {
	var t transparency.Tree
	err := s.row(ctx, s.read, `SELECT h.sequence, t.size, t.checkpoint, t.published_size, t.published, t.term, t.holder
		FROM audit_tree t CROSS JOIN audit_head h`).Scan(&t.Head, &t.Size, &t.Checkpoint, &t.PublishedSize, &t.Published, &t.Term, &t.Holder)
	if err != nil {
		return t, broken("reading the record's tree", err)
	}
	return t, nil
}

// SeizeTree gives the right to grow the tree to the node.
func (s *Store) SeizeTree(ctx context.Context, term int64, holder string) error {
	return s.changeTree(ctx, s.write, "UPDATE audit_tree SET term = term + 1, holder = $1 WHERE term = $2", holder, term)
}

// ReleaseTree gives the right back.
func (s *Store) ReleaseTree(ctx context.Context, term int64, holder string) error {
	return s.changeTree(ctx, s.write, "UPDATE audit_tree SET holder = '' WHERE holder = $1 AND term = $2", holder, term)
}

// changeTree updates the one row of the tree, or fails with ErrLost.
func (s *Store) changeTree(ctx context.Context, q querier, query string, args ...any) error {
	n, err := s.exec(ctx, q, query, args...)
	if err != nil {
		return broken("changing the record's tree", err)
	}
	if n == 0 {
		return transparency.ErrLost
	}
	return nil
}

// Leaves hashes the events after the sequence.
func (s *Store) Leaves(ctx context.Context, after int64, limit int) ([]tlog.Hash, error) {
	next := after
	leaves, err := list(ctx, s, s.read, func(row scanner) (tlog.Hash, error) {
		var (
			sequence int64
			body     sql.RawBytes
		)
		if err := row.Scan(&sequence, &body); err != nil {
			return tlog.Hash{}, err
		}
		if next++; sequence != next {
			return tlog.Hash{}, fmt.Errorf("%w: %d", transparency.ErrGap, next)
		}
		return tlog.RecordHash(body), nil
	}, "SELECT sequence, body FROM audit_events WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence", after, after+int64(limit))
	if err != nil && !errors.Is(err, transparency.ErrGap) {
		return nil, broken("reading events to be hashed", err)
	}
	return leaves, err
}

// GrowTree writes one step of the tree.
func (s *Store) GrowTree(ctx context.Context, from transparency.Tree, g transparency.Growth) error {
	return s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		// First, so that of two nodes one waits and then finds that it lost.
		if err := s.changeTree(ctx, tx, "UPDATE audit_tree SET size = $1, checkpoint = $2 WHERE term = $3 AND holder = $4 AND size = $5",
			g.Size, g.Checkpoint, from.Term, from.Holder, from.Size); err != nil {
			return err
		}
		if err := s.saveTiles(ctx, tx, g); err != nil {
			return err
		}
		if g.Publish == nil {
			return nil
		}
		return s.publish(ctx, tx, *g.Publish)
	})
}

func (s *Store) saveTiles(ctx context.Context, tx *sql.Tx, g transparency.Growth) error {
	if len(g.Tiles) == 0 {
		return nil
	}
	rows := giving("level bigint", "n bigint", "hashes bytea")
	for i, t := range g.Tiles {
		rows.add(int64(t.L), t.N, g.Data[i])
	}
	clause, args := s.with(rows)
	if _, err := s.exec(ctx, tx, clause+`INSERT INTO audit_tiles (level, n, hashes) SELECT level, n, hashes FROM given WHERE true
		ON CONFLICT (level, n) DO UPDATE SET hashes = excluded.hashes`, args...); err != nil {
		return broken("storing tiles of the record's tree", err)
	}
	return nil
}

// PublishCheckpoint lets readers see a checkpoint.
func (s *Store) PublishCheckpoint(ctx context.Context, p transparency.Publication) error {
	return s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error { return s.publish(ctx, tx, p) })
}

func (s *Store) publish(ctx context.Context, tx *sql.Tx, p transparency.Publication) error {
	n, err := s.exec(ctx, tx, "UPDATE audit_tree SET published_size = $1, published = $2 WHERE published_size < $1 OR published IS NULL", p.Size, p.Checkpoint)
	if err != nil {
		return broken("publishing a checkpoint", err)
	}
	if n == 0 || !p.Remember {
		return nil
	}
	rows := giving("size bigint", "checkpoint bytea", "at timestamptz")
	rows.add(p.Size, p.Checkpoint, p.At)
	clause, args := s.with(rows)
	if _, err := s.exec(ctx, tx, clause+`INSERT INTO audit_checkpoints (size, checkpoint, at) SELECT size, checkpoint, at FROM given
		WHERE NOT EXISTS (SELECT 1 FROM audit_checkpoints c WHERE c.size = given.size) ON CONFLICT (size) DO NOTHING`, args...); err != nil {
		return broken("keeping a checkpoint", err)
	}
	return nil
}

// Tiles gives what is stored of tiles, in the order asked for.
func (s *Store) Tiles(ctx context.Context, tiles []tlog.Tile) ([][]byte, error) {
	type place struct{ level, n int64 }
	rows := giving("level bigint", "n bigint")
	for _, t := range tiles {
		rows.add(int64(t.L), t.N)
	}
	clause, args := s.with(rows)
	stored := make(map[place][]byte, len(tiles))
	_, err := list(ctx, s, s.read, func(row scanner) (none struct{}, err error) {
		var (
			at     place
			hashes []byte
		)
		err = row.Scan(&at.level, &at.n, &hashes)
		stored[at] = hashes
		return none, err
	}, clause+"SELECT t.level, t.n, t.hashes FROM given JOIN audit_tiles t ON t.level = given.level AND t.n = given.n", args...)
	if err != nil {
		return nil, broken("reading tiles of the record's tree", err)
	}
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		data[i] = stored[place{int64(t.L), t.N}]
	}
	return data, nil
}

// Checkpoints gives checkpoints that were kept for good.
func (s *Store) Checkpoints(ctx context.Context, after, upTo int64) ([]transparency.Publication, error) {
	kept, err := list(ctx, s, s.read, func(row scanner) (transparency.Publication, error) {
		p := transparency.Publication{Remember: true}
		err := row.Scan(&p.Size, &p.Checkpoint, when{&p.At})
		return p, err
	}, "SELECT size, checkpoint, at FROM audit_checkpoints WHERE size > $1 AND size <= $2 ORDER BY size", after, upTo)
	if err != nil {
		return nil, broken("reading older checkpoints", err)
	}
	return kept, nil
}
