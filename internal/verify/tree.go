package verify

import (
	"crypto/sha256"

	"golang.org/x/mod/sumdb/tlog"
)

// maxSize bounds what is taken for the size of a tree, so that sizes can be added and
// doubled.
const maxSize = 1 << 60

// tree is a Merkle tree (RFC 6962 §2.1) that grows to the right and keeps the roots of
// its complete subtrees only, as the ones of a binary counter.
type tree struct {
	size  int64
	roots [61]tlog.Hash
}

// add puts a complete subtree of 2^level leaves to the right; size is a multiple of that.
func (t *tree) add(level int, h tlog.Hash) {
	at := level
	for n := t.size >> level; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(t.roots[at], h)
		at++
	}
	t.roots[at] = h
	t.size += 1 << level
}

// root is that of all the leaves so far.
func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		return sha256.Sum256(nil)
	}
	var h tlog.Hash
	for n, level, found := t.size, 0, false; n > 0; n, level = n>>1, level+1 {
		switch {
		case n&1 == 0:
		case !found:
			h, found = t.roots[level], true
		default:
			h = tlog.NodeHash(t.roots[level], h)
		}
	}
	return h
}
