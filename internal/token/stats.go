package token

import "sync/atomic"

// Stats is how often a cache had what it was asked for since it was made.
type Stats struct{ Hits, Misses uint64 }

// Since gives what was added to an earlier state.
func (s Stats) Since(earlier Stats) Stats {
	return Stats{Hits: s.Hits - earlier.Hits, Misses: s.Misses - earlier.Misses}
}

// tally counts for Stats. It is safe for concurrent use.
type tally struct{ hits, misses atomic.Uint64 }

// note counts one question, and gives back whether it was a hit.
func (t *tally) note(hit bool) bool {
	if hit {
		t.hits.Add(1)
	} else {
		t.misses.Add(1)
	}
	return hit
}

func (t *tally) stats() Stats { return Stats{Hits: t.hits.Load(), Misses: t.misses.Load()} }
