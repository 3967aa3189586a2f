package credential_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

func newSecret(t testing.TB) credential.Secret {
	t.Helper()
	s, err := credential.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// scan gives what is found, as line:keyid.
func scan(t testing.TB, r io.Reader) (all []string) {
	t.Helper()
	if err := credential.Scan(r, func(line int, s credential.Secret) { all = append(all, fmt.Sprintf("%d:%s", line, s.KeyID())) }); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSecretsAreFoundWhereverTheyStand(t *testing.T) {
	a, b := newSecret(t), newSecret(t)
	x, y := a.Value().Reveal(), b.Value().Reveal()
	mistyped := x[:20] + string('0'+(x[20]+1)%10) + x[21:]
	text := "first\nSECRET=" + x + "\n" + mistyped + " sidp_ sidp_short\nhttps://id:" + y + "@idp\x00\n\n" + x + y + "\n" + x[:len(x)-1]
	want := []string{"2:" + a.KeyID(), "4:" + b.KeyID(), "6:" + a.KeyID(), "6:" + b.KeyID()}
	for name, r := range map[string]io.Reader{"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text))} {
		if got := scan(t, r); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if err := credential.Scan(iotest.ErrReader(io.ErrClosedPipe), func(int, credential.Secret) {}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a reader that fails: %v", err)
	}
}

// A secret that lies across the border of what is read at a time is found once.
func TestSecretsAreFoundAcrossBorders(t *testing.T) {
	s := newSecret(t)
	const border = 256 << 10
	for before := border - 70; before < border+4; before++ {
		text := strings.Repeat("\n", before) + s.Value().Reveal() + strings.Repeat("x\n", border)
		if got, want := scan(t, strings.NewReader(text)), fmt.Sprintf("[%d:%s]", before+1, s.KeyID()); fmt.Sprint(got) != want {
			t.Fatalf("after %d lines: %v, want %s", before, got, want)
		}
	}
}

func FuzzScanFindsWhatParses(f *testing.F) {
	f.Add([]byte("sidp_"), uint16(3))
	f.Add([]byte(newSecret(f).Value().Reveal()), uint16(70))
	s := newSecret(f)
	f.Fuzz(func(t *testing.T, noise []byte, at uint16) {
		i := int(at) % (len(noise) + 1)
		text := bytes.Join([][]byte{noise[:i], []byte(s.Value().Reveal()), noise[i:]}, nil)
		found := false
		if err := credential.Scan(bytes.NewReader(text), func(_ int, got credential.Secret) { found = found || got.KeyID() == s.KeyID() }); err != nil {
			t.Fatal(err)
		}
		if !found {
			t.Errorf("the secret in %q is not found", text)
		}
	})
}

// The pattern that is published is this one, in the rule for gitleaks and in the prose.
func TestThePublishedPatternFindsEverySecretAndNothingElse(t *testing.T) {
	for _, name := range []string{"gitleaks.toml", "secrets.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), credential.Pattern) {
			t.Errorf("docs/%s does not say %s", name, credential.Pattern)
		}
	}
	pattern := regexp.MustCompile(credential.Pattern)
	for range 1000 {
		s := newSecret(t).Value().Reveal()
		for _, text := range []string{s, "x=" + s + "\n", `"` + s + `"`, "id:" + s + "@host"} {
			if got := pattern.FindString(text); got != s {
				t.Fatalf("in %q it finds %q", text, got)
			}
		}
	}
	s := newSecret(t).Value().Reveal()
	for _, text := range []string{s[:len(s)-1], s + "x", "x" + s, strings.ToUpper(s), strings.Replace(s, "_", "-", 1), "ghp_0123456789abcdefghijABCDEFGHIJ012345", "sidp_…"} {
		if got := pattern.FindString(text); got != "" {
			t.Errorf("in %q it finds %q", text, got)
		}
	}
}
