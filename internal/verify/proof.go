package verify

import (
	"encoding/json"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// maxProof bounds the JSON of a proof, in bytes, and maxHashes its hashes.
const (
	maxProof  = 4 << 20
	maxHashes = 65
)

// Inclusion is the answer of GET /audit/events/{eventId}/proof: an event, and the proof
// that it is in the tree of a checkpoint (RFC 6962 §2.1.1).
type Inclusion struct {
	Leaf       []byte           `json:"leaf"`
	LeafIndex  int64            `json:"leafIndex"`
	TreeSize   int64            `json:"treeSize"`
	Hashes     tlog.RecordProof `json:"hashes"`
	Checkpoint string           `json:"checkpoint"`
}

// ReadInclusion reads a proof in JSON. A *Failure says that it is none.
func ReadInclusion(r io.Reader) (Inclusion, error) {
	var p Inclusion
	err := readProof(r, &p)
	if err == nil && (len(p.Leaf) == 0 || p.TreeSize < 1 || p.LeafIndex < 0 || p.LeafIndex >= p.TreeSize || p.TreeSize > maxSize || len(p.Hashes) > maxHashes) {
		err = &Failure{Kind: Malformed, Detail: "the proof is none of an event: a member is missing, or no tree has such numbers"}
	}
	return p, err
}

// Verify checks the proof with the log's key, and gives the event and the checkpoint that
// proves it. Every failure is a *Failure.
func (p Inclusion) Verify(log note.Verifier) (audit.Event, transparency.Checkpoint, error) {
	fail := func(kind Kind, detail string) (audit.Event, transparency.Checkpoint, error) {
		f := &Failure{Kind: kind, Sequence: p.LeafIndex + 1, Detail: detail}
		if h, _ := readHead(p.Leaf); h.id != nil {
			f.ID = string(h.id)
		}
		return audit.Event{}, transparency.Checkpoint{}, f
	}
	c, err := transparency.Open([]byte(p.Checkpoint), log)
	if err != nil {
		return fail(WrongSignature, err.Error())
	}
	if c.Size != p.TreeSize || c.Size > maxSize {
		return fail(WrongTree, fmt.Sprintf("the proof is of a tree of %d leaves, the checkpoint of one of %d", p.TreeSize, c.Size))
	}
	if tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.LeafIndex, tlog.RecordHash(p.Leaf)) != nil {
		return fail(WrongTree, "the leaf and the hashes do not lead to the root of the checkpoint")
	}
	h, err := readHead(p.Leaf)
	if err == nil && h.version != 1 {
		return fail(UnknownVersion, fmt.Sprintf("version %d is not known here", h.version))
	}
	if err != nil {
		return fail(Malformed, err.Error())
	}
	e, err := audit.Decode(p.Leaf)
	if err != nil {
		return fail(Malformed, err.Error())
	}
	e.Sequence = p.LeafIndex + 1
	return e, c, nil
}

// Consistency is the answer of GET /audit/consistency: the proof that one tree is a
// prefix of another (RFC 6962 §2.1.2).
type Consistency struct {
	From   int64          `json:"from"`
	To     int64          `json:"to"`
	Hashes tlog.TreeProof `json:"hashes"`
}

// ReadConsistency reads a proof in JSON. A *Failure says that it is none.
func ReadConsistency(r io.Reader) (Consistency, error) {
	var p Consistency
	err := readProof(r, &p)
	if err == nil && (p.From < 0 || p.To < p.From || p.To > maxSize || len(p.Hashes) > maxHashes) {
		err = &Failure{Kind: Malformed, Detail: "the proof is none of consistency: no trees have such sizes"}
	}
	return p, err
}

// Verify checks that the tree of the older checkpoint is a prefix of that of the newer
// one. Both are of one log, and were opened. Every failure is a *Failure: Forked, or
// RolledBack where the newer one is smaller.
func (p Consistency) Verify(older, newer transparency.Checkpoint) error {
	forked := func(detail string) error {
		return &Failure{Kind: Forked, Sequence: min(1, older.Size), Last: older.Size, Detail: detail}
	}
	switch {
	case older.Size > maxSize || newer.Size > maxSize:
		return &Failure{Kind: Malformed, Detail: "no log has so many leaves"}
	case newer.Size < older.Size:
		return rolledBack(older, newer)
	case older.Size == newer.Size:
		if older.Root != newer.Root {
			return forked(fmt.Sprintf("the log signed two different trees of %d leaves", newer.Size))
		}
		return nil
	case older.Size == 0:
		return nil
	case p.From != older.Size || p.To != newer.Size:
		return &Failure{Kind: Malformed, Detail: fmt.Sprintf("the proof is of the sizes %d and %d, not of %d and %d", p.From, p.To, older.Size, newer.Size)}
	case len(p.Hashes) > maxHashes || tlog.CheckTree(p.Hashes, newer.Size, newer.Root, older.Size, older.Root) != nil:
		return forked(fmt.Sprintf("the log cannot prove that its tree of %d leaves contains the tree of %d leaves it showed before", newer.Size, older.Size))
	}
	return nil
}

func rolledBack(older, newer transparency.Checkpoint) error {
	return &Failure{Kind: RolledBack, Sequence: newer.Size + 1, Last: older.Size, Detail: fmt.Sprintf(
		"the log has %d leaves, and showed %d before: it was cut, or restored from a backup", newer.Size, older.Size)}
}

func readProof[P Inclusion | Consistency](r io.Reader, into *P) error {
	text, err := io.ReadAll(io.LimitReader(r, maxProof+1))
	if err != nil {
		return fmt.Errorf("reading a proof: %w", err)
	}
	if len(text) > maxProof {
		return &Failure{Kind: Malformed, Detail: "the proof is longer than 4 MiB"}
	}
	if err := json.Unmarshal(text, into); err != nil {
		return &Failure{Kind: Malformed, Detail: "the proof is not JSON of its form: " + err.Error()}
	}
	return nil
}
