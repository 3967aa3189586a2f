package transparency

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// A checkpoint that was signed is read back, and only with the right key and name.
func TestACheckpointIsWhatWasSigned(t *testing.T) {
	private, public, err := newKey("idp.example.com/audit")
	if err != nil {
		t.Fatal(err)
	}
	key, err := readKey(private, public)
	if err != nil {
		t.Fatal(err)
	}
	want := Checkpoint{Origin: "idp.example.com/audit", Size: 1042, Root: tlog.RecordHash([]byte("leaf"))}
	signed, err := key.sign(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Open(signed, key.verifier); err != nil || got != want {
		t.Errorf("Open = %+v, %v; want %+v", got, err, want)
	}
	for name, forged := range map[string]string{
		"size":      strings.Replace(string(signed), "\n1042\n", "\n1041\n", 1),
		"origin":    strings.Replace(string(signed), "idp.example.com", "idp.example.org", 1),
		"root":      strings.Replace(string(signed), want.Root.String()[:4], "AAAA", 1),
		"signature": string(signed[:strings.LastIndex(string(signed), "—")]),
	} {
		if got, err := Open([]byte(forged), key.verifier); err == nil {
			t.Errorf("a checkpoint with another %s was taken: %+v", name, got)
		}
	}
	// A key signs for its own log alone.
	foreign, err := key.sign(Checkpoint{Origin: "other.example/audit", Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Open(foreign, key.verifier); err == nil {
		t.Errorf("a checkpoint of another log was taken: %+v", got)
	}
}

func TestWhatIsNoCheckpointIsRefused(t *testing.T) {
	root := tlog.Hash{}.String()
	for _, text := range []string{
		"", "a\n", "a\n1\n", "\n1\n" + root + "\n", "a\n-1\n" + root + "\n", "a\n01\n" + root + "\n", "a\n1\n" + root,
		"a\n1\nAAAA\n", "a\nx\n" + root + "\n", "a\n99999999999999999999\n" + root + "\n", "a\n4611686018427387905\n" + root + "\n",
	} {
		if got, err := ParseCheckpoint(text); !errors.Is(err, errCheckpoint) {
			t.Errorf("%q was read as %+v, %v", text, got, err)
		}
	}
	if got, err := ParseCheckpoint("a\n1\n" + root + "\nmore\n"); err != nil || got.Size != 1 {
		t.Errorf("a checkpoint with an extension was read as %+v, %v", got, err)
	}
}

func TestAKeyThatIsNotItsOwnIsRefused(t *testing.T) {
	private, _, err := newKey("a/audit")
	if err != nil {
		t.Fatal(err)
	}
	_, public, err := newKey("a/audit")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readKey(private, public); err == nil {
		t.Error("a key was taken with the public key of another")
	}
}

func TestTheOriginIsTheIssuersAddress(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://idp.example.com": "idp.example.com/audit",
		"http://localhost:3000":   "localhost:3000/audit",
		"::":                      "agentidp/audit",
	} {
		if got := Origin(issuer); got != want {
			t.Errorf("Origin(%q) = %q, want %q", issuer, got, want)
		}
	}
}
