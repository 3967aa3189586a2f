package verify

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/bits"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// How an export's three kinds of lines begin.
const (
	eventStart      = `{"sequence":`
	subtreeStart    = `{"leaves":[`
	checkpointStart = `{"checkpoint":`
)

// hashText is the length of a hash in base64.
const hashText = 44

var (
	errLine    = errors.New("the line is none of an export's")
	errNoProof = errors.New("the export has no hashes: it must be made with proof=true")
	errForm    = errors.New("the event's bytes are not in the form of the format, version 1")
)

// eventLine is an event as an export shows it. All of it lies in the line's own bytes.
type eventLine struct {
	sequence int64
	leafHash []byte
	// hashed is 0x00 and the canonical bytes: what the leaf hash is of.
	hashed []byte
}

// readEvent reads an event's line, over whose bytes it writes.
func readEvent(line []byte) (eventLine, error) {
	rest, ok := bytes.CutPrefix(line, []byte(eventStart))
	sequence, rest, isNumber := cutNumber(rest)
	if !ok || !isNumber || sequence < 1 {
		return eventLine{}, errLine
	}
	if bytes.HasPrefix(rest, []byte(`,"v":`)) {
		return eventLine{}, errNoProof
	}
	rest, ok = bytes.CutPrefix(rest, []byte(`,"leafHash":"`))
	if !ok || len(rest) < hashText+2 || rest[hashText] != '"' || rest[hashText+1] != ',' || !bytes.HasPrefix(rest[hashText+2:], []byte(`"v":`)) {
		return eventLine{}, errLine
	}
	e := eventLine{sequence: sequence, leafHash: rest[:hashText], hashed: rest[hashText:]}
	// The two bytes before the rest of the canonical ones make room for what is missing
	// of them, so that an event is hashed where it lies.
	e.hashed[0], e.hashed[1] = 0x00, '{'
	return e, nil
}

func (e eventLine) body() []byte { return e.hashed[1:] }

// holds reports whether a hash is the one that the line gives, in its only spelling.
func (e eventLine) holds(h tlog.Hash) bool {
	var text [hashText]byte
	base64.StdEncoding.Encode(text[:], h[:])
	return bytes.Equal(text[:], e.leafHash)
}

// head is what canonical bytes begin with.
type head struct {
	version int64
	id      []byte
	millis  int64 // of the event's time, since 1970
}

// readHead reads the beginning of canonical bytes. Where it fails it gives what it has
// found so far.
func readHead(body []byte) (h head, err error) {
	rest, ok := bytes.CutPrefix(body, []byte(`{"v":`))
	if !ok {
		return h, errForm
	}
	if h.version, rest, ok = cutNumber(rest); !ok {
		return h, errForm
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"id":"`)); !ok || len(rest) < 36 {
		return h, errForm
	}
	made, ok := uuidMillis(rest[:36])
	if !ok {
		return h, errForm
	}
	h.id = rest[:36]
	if h.version != 1 {
		return h, nil
	}
	rest, ok = bytes.CutPrefix(rest[36:], []byte(`","time":"`))
	if !ok || len(rest) < 28 || rest[27] != '"' {
		return h, errForm
	}
	if h.millis, ok = timeMillis(rest[:27]); !ok || h.millis != made || !bytes.HasSuffix(body, []byte(`"}`)) {
		return h, errForm
	}
	return h, nil
}

// uuidMillis gives the time of a UUID of version 7 (RFC 9562 §5.7) in lower case.
func uuidMillis(text []byte) (millis int64, ok bool) {
	for i, c := range text {
		var digit int64
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return 0, false
			}
			continue
		case c >= '0' && c <= '9':
			digit = int64(c - '0')
		case c >= 'a' && c <= 'f':
			digit = int64(c-'a') + 10
		default:
			return 0, false
		}
		if i < 13 {
			millis = millis<<4 | digit
		}
	}
	return millis, text[14] == '7' && strings.IndexByte("89ab", text[19]) >= 0
}

// timeMillis reads YYYY-MM-DDThh:mm:ss.ffffffZ.
func timeMillis(text []byte) (millis int64, ok bool) {
	const form = "0000-00-00T00:00:00.000000Z"
	var part [7]int
	at := 0
	for i, c := range text {
		switch {
		case form[i] != '0':
			if c != form[i] {
				return 0, false
			}
			at++
		case c < '0' || c > '9':
			return 0, false
		default:
			part[at] = part[at]*10 + int(c-'0')
		}
	}
	t := time.Date(part[0], time.Month(part[1]), part[2], part[3], part[4], part[5], part[6]*1000, time.UTC)
	exact := t.Day() == part[2] && int(t.Month()) == part[1] && t.Hour() == part[3] && t.Minute() == part[4] && t.Second() == part[5]
	return t.UnixMilli(), exact
}

type subtreeLine struct {
	from, to int64
	level    int
	hash     tlog.Hash
}

// readSubtree reads the line of a subtree that is not shown.
func readSubtree(line []byte) (s subtreeLine, err error) {
	rest, starts := bytes.CutPrefix(line, []byte(subtreeStart))
	var ok bool
	if s.from, rest, ok = cutNumber(rest); !starts || !ok || len(rest) == 0 || rest[0] != ',' {
		return s, errLine
	}
	if s.to, rest, ok = cutNumber(rest[1:]); !ok {
		return s, errLine
	}
	rest, ok = bytes.CutPrefix(rest, []byte(`],"hash":"`))
	if !ok || len(rest) != hashText+2 || string(rest[hashText:]) != `"}` {
		return s, errLine
	}
	if s.hash, err = tlog.ParseHash(string(rest[:hashText])); err != nil || s.hash.String() != string(rest[:hashText]) {
		return s, errLine
	}
	n := s.to - s.from
	if n < 1 || n&(n-1) != 0 || s.from%n != 0 {
		return s, errors.New("the number of leaves is not a power of two that divides the first")
	}
	s.level = bits.TrailingZeros64(uint64(n))
	return s, nil
}

// readCheckpoint gives the signed note in a checkpoint's line.
func readCheckpoint(line []byte) ([]byte, error) {
	var one struct {
		Checkpoint string `json:"checkpoint"`
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&one); err != nil || decoder.More() {
		return nil, errLine
	}
	return []byte(one.Checkpoint), nil
}

// cutNumber reads a whole number without a sign and without needless zeros.
func cutNumber(b []byte) (n int64, rest []byte, ok bool) {
	i := 0
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		if n = n*10 + int64(b[i]-'0'); n > maxSize {
			return 0, b, false
		}
		i++
	}
	return n, b[i:], i > 0 && (i == 1 || b[0] != '0')
}
