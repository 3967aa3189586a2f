package transparency

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// place names a tile without its width.
type place struct {
	level int
	n     int64
}

// growing is a tree that leaves are added to. It holds the tiles at the right edge,
// which are all that is needed, and the hashes that were added since they were read.
type growing struct {
	size int64
	edge map[place][]byte
	// base is the storage index of the first of the new hashes.
	base  int64
	fresh []tlog.Hash
}

// edgeOf names the tiles at the right edge of a tree, one on each level of tiles.
func edgeOf(size int64) []tlog.Tile {
	var tiles []tlog.Tile
	for level := 0; size>>(TileHeight*level) > 0; level++ {
		n := size >> (TileHeight * level)
		if width := n & (1<<TileHeight - 1); width > 0 {
			tiles = append(tiles, tlog.Tile{H: TileHeight, L: level, N: n >> TileHeight, W: int(width)})
		}
	}
	return tiles
}

// growingFrom reads the right edge of a tree of that size.
func growingFrom(ctx context.Context, store TileStore, size int64) (*growing, error) {
	tiles := edgeOf(size)
	g := &growing{size: size, edge: map[place][]byte{}, base: tlog.StoredHashCount(size)}
	if len(tiles) == 0 {
		return g, nil
	}
	data, err := store.Tiles(ctx, tiles)
	if err != nil {
		return nil, err
	}
	for i, t := range tiles {
		if data[i], err = cut(t, data[i]); err != nil {
			return nil, err
		}
		g.edge[place{t.L, t.N}] = data[i]
	}
	return g, nil
}

// cut gives as much of a stored tile as the tile is wide: one that has grown since
// begins with what it was.
func cut(t tlog.Tile, stored []byte) ([]byte, error) {
	width := t.W * tlog.HashSize
	if len(stored) < width {
		return nil, fmt.Errorf("the tile %s of the record's tree is missing", t.Path())
	}
	return stored[:width:width], nil
}

// ReadHashes gives hashes by their storage index (tlog.HashReader).
func (g *growing) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= g.base {
			hashes[i] = g.fresh[index-g.base]
			continue
		}
		t := tlog.TileForIndex(TileHeight, index)
		h, err := tlog.HashFromTile(t, g.edge[place{t.L, t.N}], index)
		if err != nil {
			return nil, fmt.Errorf("the edge of the record's tree lacks a hash: %w", err)
		}
		hashes[i] = h
	}
	return hashes, nil
}

// add appends leaves and gives the tiles that are new or wider.
func (g *growing) add(leaves []tlog.Hash) (tiles []tlog.Tile, data [][]byte, err error) {
	size := g.size
	for _, leaf := range leaves {
		hashes, err := tlog.StoredHashesForRecordHash(size, leaf, g)
		if err != nil {
			return nil, nil, fmt.Errorf("adding a leaf: %w", err)
		}
		g.fresh = append(g.fresh, hashes...)
		size++
	}
	tiles = tlog.NewTiles(TileHeight, g.size, size)
	for _, t := range tiles {
		content, err := tlog.ReadTileData(t, g)
		if err != nil {
			return nil, nil, fmt.Errorf("making a tile: %w", err)
		}
		data = append(data, content)
	}
	g.size = size
	return tiles, data, nil
}

// settle forgets what was added, as it is stored, and keeps the new right edge.
func (g *growing) settle(tiles []tlog.Tile, data [][]byte) {
	edge := map[place][]byte{}
	for _, t := range edgeOf(g.size) {
		edge[place{t.L, t.N}] = g.edge[place{t.L, t.N}]
	}
	for i, t := range tiles {
		if _, ok := edge[place{t.L, t.N}]; ok {
			edge[place{t.L, t.N}] = data[i]
		}
	}
	g.edge, g.base, g.fresh = edge, tlog.StoredHashCount(g.size), nil
}

// root gives the root of the tree.
func (g *growing) root() (tlog.Hash, error) { return tlog.TreeHash(g.size, g) }

// tileReader reads tiles for proofs (tlog.TileReader).
type tileReader struct {
	ctx   context.Context
	store TileStore
}

// Height is that of all our tiles.
func (tileReader) Height() int { return TileHeight }

// ReadTiles gives the tiles exactly as wide as they are asked for.
func (r tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data, err := r.store.Tiles(r.ctx, tiles)
	if err != nil {
		return nil, err
	}
	for i, t := range tiles {
		if data[i], err = cut(t, data[i]); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// SaveTiles keeps nothing.
func (tileReader) SaveTiles([]tlog.Tile, [][]byte) {}
