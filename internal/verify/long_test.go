package verify

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/verify/verifytest"
)

const (
	// apart is how far the events of a long export are from each other: ten million are
	// 90 days.
	apart = 777 * time.Millisecond
	// checkpointEvery is after how many of them an export has a checkpoint: they are kept
	// every five minutes.
	checkpointEvery = 386
)

// longExport makes the lines of an export with proofs as they are read, each event
// another one, and keeps none of them. It notes how long that took.
type longExport struct {
	log  *testLog
	left int64
	tree tree
	at   time.Time

	line   []byte // of an event, in which what differs is replaced
	body   int    // where in it the canonical bytes begin, which lack their first byte
	hashed []byte
	id     int // where the id's time, the time and the salt are
	time   int
	salt   int

	made, rest []byte
	took       time.Duration
}

func newLongExport(b testing.TB, events int64) *longExport {
	b.Helper()
	l := newLog(b)
	body := event(time.Hour, orgA, uuid.NewString())
	hash := base64.StdEncoding.EncodeToString(make([]byte, tlog.HashSize))
	line := fmt.Sprintf(`"leafHash":"%s",%s`, hash, body[1:])
	x := &longExport{log: l, left: events, at: now.Add(-time.Duration(events) * apart), line: []byte(line + "\n")}
	place := func(before string) int {
		at := strings.Index(line, before)
		if at < 0 {
			b.Fatalf("%s is not in %s", before, line)
		}
		return at + len(before)
	}
	x.body, x.id, x.time, x.salt = strings.Index(line, `"v":1`), place(`"id":"`), place(`"time":"`), place(`"salt":"`)
	return x
}

// Read gives more lines.
func (x *longExport) Read(p []byte) (int, error) {
	if len(x.rest) == 0 {
		if x.left == 0 {
			return 0, io.EOF
		}
		began := time.Now()
		x.made = x.made[:0]
		for n := min(x.left, checkpointEvery); n > 0; n-- {
			x.next()
		}
		c := *x.log.seen(0)
		c.Size, c.Root = x.tree.size, x.tree.root()
		x.made = append(append(x.made, verifytest.CheckpointLine(x.log.Sign(c))...), '\n')
		x.rest = x.made
		x.took += time.Since(began)
	}
	n := copy(p, x.rest)
	x.rest = x.rest[n:]
	return n, nil
}

// next makes one event.
func (x *longExport) next() {
	x.at = x.at.Add(apart)
	millis := fmt.Appendf(nil, "%012x", x.at.UnixMilli())
	copy(x.line[x.id:], millis[:8])
	copy(x.line[x.id+9:], millis[8:])
	copy(x.line[x.time:], x.at.Format("2006-01-02T15:04:05.000000Z"))
	var salt [16]byte
	for i := range 8 {
		salt[i] = byte(x.tree.size >> (8 * i))
	}
	hex.Encode(x.line[x.salt:], salt[:])
	x.hashed = append(append(x.hashed[:0], '{'), x.line[x.body:len(x.line)-1]...)
	hash := tlog.RecordHash(x.hashed)
	base64.StdEncoding.Encode(x.line[len(`"leafHash":"`):], hash[:])
	x.tree.add(0, hash)
	x.left--
	x.made = append(strconv.AppendInt(append(x.made, eventStart...), x.tree.size, 10), ',')
	x.made = append(x.made, x.line...)
}

// resident gives the most memory that the process has had, in MiB; 0 where the system
// does not tell.
func resident() (peak float64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if _, err := fmt.Sscanf(string(line), "VmHWM: %f kB", &peak); err == nil {
			return peak / 1024
		}
	}
	return 0
}

// BenchmarkLongExport verifies exports of a million and of ten million events, which no
// disk holds. It gives the events/s of the verification alone, without the making, and
// the peaks of memory, which must be the same (R4).
func BenchmarkLongExport(b *testing.B) {
	for _, events := range []int64{1_000_000, 10_000_000} {
		b.Run(strconv.FormatInt(events, 10), func(b *testing.B) {
			var heap uint64
			var took time.Duration
			var sum Summary
			for b.Loop() {
				x := newLongExport(b, events)
				cfg := x.log.config()
				cfg.All = true
				cfg.Progress = func(s Summary) {
					if s.Events/4096%64 == 0 { // to look costs a pause
						var m runtime.MemStats
						runtime.ReadMemStats(&m)
						heap = max(heap, m.HeapInuse)
					}
				}
				began := time.Now()
				var err error
				if sum, err = Export(b.Context(), x, cfg); err != nil {
					b.Fatal(err)
				}
				took += time.Since(began) - x.took
				if sum.Events != events || sum.Checkpoints != (events+checkpointEvery-1)/checkpointEvery {
					b.Fatalf("%+v", sum)
				}
			}
			b.ReportMetric(float64(events)*float64(b.N)/took.Seconds(), "events/s")
			b.ReportMetric(float64(sum.Bytes)/(1<<20)*float64(b.N)/took.Seconds(), "MiB/s")
			b.ReportMetric(float64(heap)/(1<<20), "heap-MiB")
			b.ReportMetric(resident(), "resident-MiB")
		})
	}
}

// What a long export is made of is right: a byte that is changed is found.
func TestALongExportIsOfEvents(t *testing.T) {
	x := newLongExport(t, 1000)
	content, err := io.ReadAll(x)
	if err != nil {
		t.Fatal(err)
	}
	cfg := x.log.config()
	cfg.All = true
	if sum, err := Export(t.Context(), bytes.NewReader(content), cfg); err != nil || sum.Events != 1000 {
		t.Fatalf("%+v, %v", sum, err)
	}
	lines := bytes.Split(content, []byte("\n"))
	lines[100][len(lines[100])-5] ^= 1
	_, err = Export(t.Context(), bytes.NewReader(bytes.Join(lines, []byte("\n"))), cfg)
	wrong(t, err, Altered, 101)
}
