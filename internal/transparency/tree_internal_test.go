package transparency

import (
	"context"
	"math/rand/v2"
	"strconv"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// tilesInMemory keeps tiles, and refuses what may not happen to one.
type tilesInMemory struct {
	t     *testing.T
	tiles map[place][]byte
}

func (m tilesInMemory) Tree(context.Context) (Tree, error) { return Tree{}, nil }

func (m tilesInMemory) Tiles(_ context.Context, tiles []tlog.Tile) ([][]byte, error) {
	var data [][]byte
	for _, t := range tiles {
		data = append(data, m.tiles[place{t.L, t.N}])
	}
	return data, nil
}

func (m tilesInMemory) Checkpoints(context.Context, int64, int64) ([]Publication, error) {
	return nil, nil
}

func (m tilesInMemory) put(tiles []tlog.Tile, data [][]byte) {
	for i, t := range tiles {
		old := m.tiles[place{t.L, t.N}]
		if len(data[i]) != t.W*tlog.HashSize || len(old) > len(data[i]) || string(data[i][:len(old)]) != string(old) {
			m.t.Fatalf("the tile %s did not grow from what it was", t.Path())
		}
		m.tiles[place{t.L, t.N}] = data[i]
	}
}

func leafOf(n int64) tlog.Hash { return tlog.RecordHash([]byte("event " + strconv.FormatInt(n, 10))) }

// The tree that grows in steps, by nodes that take turns, is the one that the library
// makes of all leaves at once; and any two sizes of it can be proven.
func TestTheTreeIsTheLibrarysWhateverTheSteps(t *testing.T) {
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	store := tilesInMemory{t, map[place][]byte{}}
	var stored []tlog.Hash // by storage index, as the library would keep them
	all := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var hashes []tlog.Hash
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	g, err := growingFrom(t.Context(), store, 0)
	if err != nil {
		t.Fatal(err)
	}
	roots := map[int64]tlog.Hash{}
	for g.size < 70_000 {
		var leaves []tlog.Hash
		for range 1 + random.IntN(3000) {
			n := g.size + int64(len(leaves))
			hashes, err := tlog.StoredHashesForRecordHash(n, leafOf(n), all)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, hashes...)
			leaves = append(leaves, leafOf(n))
		}
		tiles, data, err := g.add(leaves)
		if err != nil {
			t.Fatal(err)
		}
		store.put(tiles, data)
		want, err := tlog.TreeHash(g.size, all)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := g.root(); err != nil || got != want {
			t.Fatalf("at %d leaves the root is %v, %v; want %v", g.size, got, err, want)
		}
		roots[g.size] = want
		if random.IntN(2) == 0 { // another node takes over
			if g, err = growingFrom(t.Context(), store, g.size); err != nil {
				t.Fatal(err)
			}
		} else {
			g.settle(tiles, data)
		}
	}
	for older := range roots {
		for newer := range roots {
			if older > newer {
				continue
			}
			r := tlog.TileHashReader(tlog.Tree{N: newer, Hash: roots[newer]}, tileReader{t.Context(), store})
			grown, err := tlog.ProveTree(newer, older, r)
			if err != nil || tlog.CheckTree(grown, newer, roots[newer], older, roots[older]) != nil {
				t.Fatalf("that %d leaves grew to %d is not proven: %v", older, newer, err)
			}
			n := random.Int64N(older)
			included, err := tlog.ProveRecord(newer, n, r)
			if err != nil || tlog.CheckRecord(included, newer, roots[newer], n, leafOf(n)) != nil {
				t.Fatalf("that leaf %d is among %d is not proven: %v", n, newer, err)
			}
		}
	}
}

func TestAnEdgeThatIsNotStoredIsNotGrownFrom(t *testing.T) {
	store := tilesInMemory{t, map[place][]byte{{0, 0}: make([]byte, 5*tlog.HashSize)}}
	if _, err := growingFrom(t.Context(), store, 6); err == nil {
		t.Error("a tree of 6 was grown from a tile of 5")
	}
	if g, err := growingFrom(t.Context(), store, 3); err != nil || len(g.edge[place{0, 0}]) != 3*tlog.HashSize {
		t.Errorf("a tile that has grown since was not cut: %v", err)
	}
}
