package witness_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/witness"
)

func vkey(t *testing.T, name string) string {
	t.Helper()
	private, err := transparency.NewCosignerKey(name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := transparency.NewCosigner(private, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return c.VerifierKey()
}

func TestWitnessesAreReadFromASetting(t *testing.T) {
	a, b, c := vkey(t, "a.example/1"), vkey(t, "b.example"), vkey(t, "c")
	text := a + " https://a.example/1/ , \n\n# not this one\n  " + b + "\thttp://127.0.0.1:3080," + c + " https://c.example:8443/x/y//\r\n"
	got, err := witness.ParseWitnesses(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a.example/1 https://a.example/1", "b.example http://127.0.0.1:3080", "c https://c.example:8443/x/y"}
	for i, w := range got {
		if s := w.Key.Name() + " " + w.URL; i >= len(want) || s != want[i] {
			t.Errorf("witness %d is %s", i, s)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d witnesses", len(got))
	}
	if none, err := witness.ParseWitnesses(" \n,"); err != nil || len(none) != 0 {
		t.Errorf("%v, %v", none, err)
	}
}

func TestAWrongSettingIsExplained(t *testing.T) {
	a := vkey(t, "a")
	log := newLog(t, "log.example/audit", 0).vkey
	_, rest, _ := strings.Cut(a, "+")
	many := ""
	for i := range 33 {
		many += vkey(t, fmt.Sprintf("w%d", i)) + " https://w.example\n"
	}
	for text, says := range map[string]string{
		a:                                          "entry 1: must be a verifier key, a space and a URL, not 1 words",
		a + " https://a.example x":                 "not 3 words",
		"# x\n" + a + " https://a.example,x y":     "entry 2: the verifier key",
		log + " https://a.example":                 "its type is 0x01, that of cosignature/v1 is 0x04",
		a + " ftp://a.example":                     "entry 1: the URL of a: the scheme must be https",
		a + " https://":                            "must have a host",
		a + " https:a.example":                     "must have a host",
		a + " a.example":                           "the scheme must be https",
		a + " https://u:secret@a.example":          "must not have a user",
		a + " https://a.example?x=1":               "a query",
		a + " https://a.example?":                  "a query",
		a + " https://a.example#x":                 "a fragment",
		a + " https://u:secret@a.example:port":     "cannot be read",
		a + " https://a.example\n" + a + " http:x": "entry 2: the URL",
		a + " https://a.example\n" + a + " https://b.example": "entry 2: the witness a or its key is there already",
		"b+" + rest + " https://b.example":                    "its hash is not that of its name and key",
		many:                                                  "entry 33: at most 32",
	} {
		_, err := witness.ParseWitnesses(text)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.80q: %v, want %q", text, err, says)
		}
	}
}

func TestTheQuorumIsMoreThanHalfUnlessGiven(t *testing.T) {
	for _, c := range []struct {
		text            string
		witnesses, want int
		wrong           bool
	}{
		{"", 0, 0, false},
		{"", 1, 1, false},
		{"", 2, 2, false},
		{"", 3, 2, false},
		{"", 4, 3, false},
		{"0", 0, 0, false},
		{"1", 3, 1, false},
		{"3", 3, 3, false},
		{"4", 3, 0, true},
		{"0", 3, 0, true},
		{"-1", 3, 0, true},
		{"1", 0, 0, true},
		{"x", 3, 0, true},
		{"2.0", 3, 0, true},
	} {
		got, err := witness.ParseQuorum(c.text, c.witnesses)
		if got != c.want || (err != nil) != c.wrong {
			t.Errorf("%q of %d: %d, %v", c.text, c.witnesses, got, err)
		}
	}
}
