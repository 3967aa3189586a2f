package witness

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// FuzzAddCheckpoint reads bodies: what is taken is within its bounds, and written
// again it is the same bytes, so that there is one way to write it.
func FuzzAddCheckpoint(f *testing.F) {
	hash := strings.Repeat("A", 43) + "="
	checkpoint := "log.example/audit\n3\n" + hash + "\n\n— log.example/audit AAAAAAAA\n"
	for _, seed := range []string{
		"old 0\n\n" + checkpoint, "old 2\n" + hash + "\n" + hash + "\n\n" + checkpoint, "old 4611686018427387904\n\nx", "old 4611686018427387905\n\nx",
		"", "old", "old \n\nx", "old 01\n\nx", "old -1\n\nx", "old +1\n\nx", "old 1 \n\nx", "Old 1\n\nx", "old 1\r\n\r\nx", "old 1\n" + hash + "\nx", "\n\n\n", "old 1\n\n",
		"old 1\n" + strings.Repeat(hash+"\n", 63) + "\nx", "old 1\n" + strings.Repeat(hash+"\n", 64) + "\nx", "old 1\n" + hash[:43] + "B\n\nx", "old 1\n\x00\n\nx", "old 1\n" + strings.Repeat("A", 42) + "B=\n\nx",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseRequest(body)
		if err != nil {
			if !errors.Is(err, errBody) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if r.old < 0 || r.old > maxSize || len(r.proof) > maxProof || len(r.checkpoint) == 0 {
			t.Errorf("out of bounds: %+v", r)
		}
		if !bytes.Equal(r.bytes(), body) {
			t.Errorf("%q is written as %q", body, r.bytes())
		}
	})
}

func TestABodyIsBounded(t *testing.T) {
	body := []byte("old 0\n\n" + strings.Repeat("x", maxBody))
	if _, err := parseRequest(body); !errors.Is(err, errBody) {
		t.Error(err)
	}
	if r, err := parseRequest(body[:maxBody]); err != nil || len(r.checkpoint) != maxBody-7 {
		t.Errorf("a body of just the bound: %v", err)
	}
}
