package witness

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// maxBody bounds the body of add-checkpoint, and of the checkpoint in it, in bytes:
// a proof and the signatures of many witnesses.
const maxBody = 128 << 10

// errBody says that a body is not that of add-checkpoint.
var errBody = errors.New("this is not a request for a cosignature")

// request is the body of add-checkpoint (C2SP tlog-witness).
type request struct {
	old        int64
	proof      tlog.TreeProof
	checkpoint []byte
}

// parseRequest reads a body.
func parseRequest(body []byte) (request, error) {
	if len(body) > maxBody {
		return request{}, fmt.Errorf("%w: it is longer than %d bytes", errBody, maxBody)
	}
	head, checkpoint, found := bytes.Cut(body, []byte("\n\n"))
	if !found || len(checkpoint) == 0 {
		return request{}, fmt.Errorf("%w: no empty line before a checkpoint", errBody)
	}
	if bytes.Count(head, []byte("\n")) > maxProof {
		return request{}, fmt.Errorf("%w: more than %d hashes", errBody, maxProof)
	}
	lines := strings.Split(string(head), "\n")
	text, found := strings.CutPrefix(lines[0], "old ")
	old, ok := parseSize(text)
	if !found || !ok {
		return request{}, fmt.Errorf("%w: the first line is not \"old\" and a size", errBody)
	}
	r := request{old: old, checkpoint: checkpoint}
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		if err != nil || hash.String() != line {
			return request{}, fmt.Errorf("%w: a line of the proof is not base64 of a hash", errBody)
		}
		r.proof = append(r.proof, hash)
	}
	return r, nil
}

// parseSize reads the size of a tree: decimal, without leading zeros.
func parseSize(text string) (int64, bool) {
	size, err := strconv.ParseInt(text, 10, 64)
	return size, err == nil && size >= 0 && size <= maxSize && strconv.FormatInt(size, 10) == text
}

// bytes writes the body.
func (r request) bytes() []byte {
	b := strconv.AppendInt([]byte("old "), r.old, 10)
	b = append(b, '\n')
	for _, hash := range r.proof {
		b = append(b, hash.String()...)
		b = append(b, '\n')
	}
	b = append(b, '\n')
	return append(b, r.checkpoint...)
}
