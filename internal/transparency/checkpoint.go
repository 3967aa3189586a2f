package transparency

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is the log's statement of what its tree is.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
}

// Text is the body of the signed note (C2SP tlog-checkpoint).
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" + c.Root.String() + "\n"
}

// errCheckpoint says that a text is not the body of a checkpoint.
var errCheckpoint = errors.New("this is not a checkpoint")

// maxSize bounds the size of a tree: the library's proofs do not end for larger ones.
const maxSize = 1 << 60

// ParseCheckpoint reads the body of a signed note. Lines after the third, which the
// format allows, are skipped.
func ParseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return Checkpoint{}, errCheckpoint
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("%w: its size is not a number", errCheckpoint)
	}
	if size > maxSize {
		return Checkpoint{}, fmt.Errorf("%w: its size is out of bounds", errCheckpoint)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil || root.String() != lines[2] {
		return Checkpoint{}, fmt.Errorf("%w: its root is not a hash", errCheckpoint)
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}

// Open reads a signed checkpoint and verifies the log's signature on it.
func Open(signed []byte, log note.Verifier) (Checkpoint, error) {
	n, err := note.Open(signed, note.VerifierList(log))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("opening a checkpoint: %w", err)
	}
	c, err := ParseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != log.Name() {
		return Checkpoint{}, fmt.Errorf("opening a checkpoint: it is of the log %q", c.Origin)
	}
	return c, nil
}

// Origin gives the name of the log of an issuer: its address without the scheme.
func Origin(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return "agentidp/audit"
	}
	path := strings.ReplaceAll(strings.TrimSuffix(u.EscapedPath(), "/"), "+", "%2B")
	return u.Host + path + "/audit"
}
