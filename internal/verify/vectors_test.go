package verify

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/verify/verifytest"
)

var vectorTime = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

// vectorLog is the log of the document's test vectors: the seed of its key is 32 bytes
// 0x01, and nothing in it is by chance.
func vectorLog(t testing.TB) *testLog {
	t.Helper()
	const origin = "log.example/audit"
	seed := bytes.Repeat([]byte{1}, ed25519.SeedSize)
	public, err := note.NewEd25519VerifierKey(origin, ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.Split(public, "+")[1]
	private := "PRIVATE+KEY+" + origin + "+" + hash + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed...))
	l := &testLog{verifytest.WithKey(t, private, public), t}
	organization := uuid.MustParse("00000000-0000-4000-8000-000000000001")
	agent := uuid.MustParse("3f1d8a52-6c1e-4b8e-9a56-0d3f4f1f9b11")
	client := audit.Origin{Actor: audit.Actor{Type: audit.TypeAgent, ID: agent.String()}, RequestID: "r-2", SourceIP: "192.0.2.10"}
	nobody := audit.Origin{Actor: audit.Actor{Type: audit.TypeAnonymous}, SourceIP: "2001:db8::1"}
	for i, e := range []audit.Event{
		audit.System("serve").Event(vectorTime, organization, audit.KeyRotated, audit.Target{Type: audit.TypeKey, ID: "k1"}),
		client.Event(vectorTime.Add(time.Millisecond), organization, audit.TokenIssued, audit.Target{Type: audit.TypeToken, ID: "t1"}).About(agent).
			With(audit.Details{}.String("scope", "invoices:read").Int("ttl", 900).Bool("cached", true).Strings("audience", []string{"a", "b"})),
		nobody.Event(vectorTime.Add(time.Second), organization, audit.TokenDenied, audit.Target{Type: audit.TypeAgent}).
			Deny("says \"no\" \\ \a and caf\u00e9 </>"),
	} {
		e.ID = fixedID(e.Time, byte(i+1))
		e.Salt = strings.Repeat("0"+string(rune('1'+i)), 16)
		l.Append(e.Encode())
	}
	return l
}

func fixedID(at time.Time, last byte) uuid.UUID {
	id := audit.NewID(at)
	id[7] &^= 3 // what is by chance in it
	copy(id[8:], []byte{0x80, 0, 0, 0, 0, 0, 0, last})
	return id
}

// The document's vectors are what the algorithms give, and what the document holds
// verifies as it says.
func TestTheDocumentsVectorsHold(t *testing.T) {
	raw, err := os.ReadFile("../../docs/audit-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(raw), "\n## Test vectors\n")
	if !ok {
		t.Fatal("the document has no vectors")
	}
	l := vectorLog(t)
	blocks := strings.Split(section, "\n```")
	block := func(kind string, n int) string {
		for _, b := range blocks {
			if rest, is := strings.CutPrefix(b, kind+"\n"); is {
				if n == 0 {
					return rest + "\n"
				}
				n--
			}
		}
		t.Errorf("the document has no block %d of %q", n, kind)
		return ""
	}
	proof := l.inclusion(1, 3)
	consistency, err := l.consistency(t.Context(), 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	var hashes string
	for i := range l.Bodies {
		hashes += l.LeafHash(int64(i)).String() + "\n"
	}
	for i, want := range []struct{ kind, text string }{
		{"key", l.Key + "\n"},
		{"events", string(bytes.Join(l.Bodies, []byte("\n"))) + "\n"},
		{"hashes", hashes},
		{"checkpoint", string(l.Checkpoint(3))},
		{"checkpoint2", string(l.Checkpoint(2))},
		{"inclusion", marshal(t, proof) + "\n"},
		{"consistency", marshal(t, consistency) + "\n"},
		{"export", text(l.Lines(nil))},
		{"export2", text(l.Lines(func(i int64) bool { return i < 2 }))},
	} {
		if got := block(want.kind, 0); got != want.text {
			t.Errorf("block %d, %s: the document has\n%s\nwant\n%s", i, want.kind, got, want.text)
		}
	}

	log, err := note.NewVerifier(strings.TrimSpace(block("key", 0)))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Log: log, Now: time.Now}
	for _, kind := range []string{"export", "export2"} {
		if sum, err := Export(t.Context(), strings.NewReader(block(kind, 0)), cfg); err != nil || sum.Leaves() != 3 {
			t.Errorf("%s: %+v, %v", kind, sum, err)
		}
	}
	inclusion, err := ReadInclusion(strings.NewReader(block("inclusion", 0)))
	if err != nil {
		t.Fatal(err)
	}
	e, newer, err := inclusion.Verify(log)
	if err != nil || e.Sequence != 2 {
		t.Errorf("%+v, %v", e, err)
	}
	older, err := transparency.Open([]byte(block("checkpoint2", 0)), log)
	if err != nil {
		t.Fatal(err)
	}
	grown, err := ReadConsistency(strings.NewReader(block("consistency", 0)))
	if err != nil {
		t.Fatal(err)
	}
	if err := grown.Verify(older, newer); err != nil {
		t.Error(err)
	}
}

// marshal is JSON as it is, without the escapes for HTML.
func marshal(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
