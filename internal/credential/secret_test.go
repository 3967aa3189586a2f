package credential_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
)

func mustSecret(t testing.TB) credential.Secret {
	t.Helper()
	s, err := credential.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestANewSecretHasThePromisedShape(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		s := mustSecret(t)
		text := s.Value().Reveal()
		if len(text) != 66 || !strings.HasPrefix(text, "sidp_") {
			t.Fatalf("%q is not sidp_ and 61 more characters", text)
		}
		parsed, err := credential.ParseSecret(text)
		if err != nil || parsed.KeyID() != s.KeyID() || !parsed.Value().Equal(s.Value()) {
			t.Fatalf("%q does not parse to itself: %v", text, err)
		}
		if len(s.KeyID()) != 12 || text[5:17] != s.KeyID() || !credential.IsKeyID(s.KeyID()) {
			t.Fatalf("the key id %q does not stand in %q", s.KeyID(), text)
		}
		if seen[text] || seen[s.KeyID()] {
			t.Fatal("two new secrets are alike")
		}
		seen[text], seen[s.KeyID()] = true, true
	}
}

func TestOneChangedCharacterIsRefused(t *testing.T) {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	text := mustSecret(t).Value().Reveal()
	for i := range len(text) {
		for _, c := range []byte(digits + "_- \x00\n") {
			if c == text[i] {
				continue
			}
			mistyped := text[:i] + string(rune(c)) + text[i+1:]
			if _, err := credential.ParseSecret(mistyped); !errors.Is(err, credential.ErrMalformedSecret) {
				t.Fatalf("%q with %q at %d gave %v", text, c, i, err)
			}
		}
	}
}

func TestWhatCannotBeASecretIsRefused(t *testing.T) {
	text := mustSecret(t).Value().Reveal()
	for name, wrong := range map[string]string{
		"empty": "", "the prefix alone": "sidp_", "shorter": text[:65], "longer": text + "0", "a space before": " " + text,
		"a line end": text + "\n", "upper-case prefix": "SIDP_" + text[5:], "two swapped characters": swapped(text),
		"not ASCII": text[:60] + "ééé", "without its prefix": text[5:],
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := credential.ParseSecret(wrong); !errors.Is(err, credential.ErrMalformedSecret) {
				t.Errorf("%q gave %v", wrong, err)
			}
		})
	}
}

// swapped exchanges the first two neighbours that differ, as a hasty typist does.
func swapped(text string) string {
	b := []byte(text)
	for i := 5; i+1 < len(b); i++ {
		if b[i] != b[i+1] {
			b[i], b[i+1] = b[i+1], b[i]
			break
		}
	}
	return string(b)
}

func TestASecretIsNotMadeOfTooLittleRandomness(t *testing.T) {
	if _, err := credential.NewSecret(bytes.NewReader(make([]byte, 10))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ten random bytes gave %v", err)
	}
}

func FuzzParseSecret(f *testing.F) {
	text := mustSecret(f).Value().Reveal()
	for _, seed := range []string{
		text, "", "sidp_", text[:65], text + "0", "sidp_" + strings.Repeat("0", 61), strings.Repeat("\x00", 66),
		"sidp_" + strings.Repeat("é", 30) + "0", strings.ToUpper(text), swapped(text),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := credential.ParseSecret(text)
		if err != nil {
			if !errors.Is(err, credential.ErrMalformedSecret) || s.KeyID() != "" || !s.Value().IsZero() {
				t.Fatalf("%q was refused with %v and gave away %q", text, err, s.KeyID())
			}
			return
		}
		if s.Value().Reveal() != text || !strings.HasPrefix(text, "sidp_"+s.KeyID()) {
			t.Fatalf("%q parsed to %q with the key id %q", text, s.Value().Reveal(), s.KeyID())
		}
		if again, err := credential.ParseSecret(s.Value().Reveal()); err != nil || again != s {
			t.Fatalf("%q does not parse twice: %v", text, err)
		}
	})
}
