package storetest

import (
	"strconv"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

func streamTests() []test {
	return []test{
		{"a stream begins at nothing and goes forward", streamForward},
		{"a stream goes only from where it stands", streamCompares},
		{"of many who advance a stream at once one does", streamConcurrent},
	}
}

// wantPosition checks where a stream stands.
func (b *bench) wantPosition(name string, want int64) {
	b.Helper()
	got, err := b.store.Position(b.Context(), name)
	b.must("reading a position", err)
	if got != want {
		b.Errorf("%s stands at %d, want %d", name, got, want)
	}
}

func streamForward(b *bench) {
	b.wantPosition("file", 0)
	const far = 9_007_199_254_740_993
	for _, step := range [][2]int64{{0, 5}, {5, 6}, {6, far}} {
		b.must("advancing", b.store.Advance(b.Context(), "file", step[0], step[1]))
		b.wantPosition("file", step[1])
	}
	b.wantPosition("webhook", 0) // each stream has its own
	b.must("advancing another", b.store.Advance(b.Context(), "webhook", 0, 1))
	b.wantPosition("file", far)
}

func streamCompares(b *bench) {
	b.must("advancing", b.store.Advance(b.Context(), "file", 0, 5))
	for _, step := range [][2]int64{{0, 7}, {4, 7}, {6, 7}, {5, 5}, {5, 4}, {5, 0}, {5, -1}} {
		b.wantFault("from "+strconv.FormatInt(step[0], 10)+" to "+strconv.FormatInt(step[1], 10), b.store.Advance(b.Context(), "file", step[0], step[1]), fault.CodeConflict)
		b.wantPosition("file", 5)
	}
	b.wantFault("from a place that was never reached", b.store.Advance(b.Context(), "new", 3, 4), fault.CodeConflict)
	b.wantPosition("new", 0)
}

func streamConcurrent(b *bench) {
	for from := range int64(5) {
		done := 0
		for _, err := range together(8, func(int) error { return b.store.Advance(b.Context(), "syslog", from, from+1) }) {
			if err == nil {
				done++
			} else {
				b.wantFault("who came second", err, fault.CodeConflict)
			}
		}
		if done != 1 {
			b.Errorf("%d of 8 moved the stream from %d", done, from)
		}
		b.wantPosition("syslog", from+1)
	}
}
