package transparency_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

const body = "log.example/audit\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"

func at(seconds int64) func() time.Time {
	return func() time.Time { return time.Unix(seconds, 0) }
}

func cosigner(t *testing.T, name string, now func() time.Time) *transparency.Cosigner {
	t.Helper()
	key, err := transparency.NewCosignerKey(name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := transparency.NewCosigner(key, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func verifier(t *testing.T, vkey string) note.Verifier {
	t.Helper()
	v, err := transparency.NewCosignatureVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The bytes are put together here after the C2SP texts, without the code under test.
func TestACosignatureIsWhatC2SPSays(t *testing.T) {
	private := ed25519.NewKeyFromSeed([]byte(strings.Repeat("\x02", 32)))
	public := private[32:]
	const hash = "c9fde0ca" // printf 'w.example/1\n\004<public key>' | sha256sum
	skey := "PRIVATE+KEY+w.example/1+" + hash + "+" + base64.StdEncoding.EncodeToString(append([]byte{4}, private.Seed()...))
	c, err := transparency.NewCosigner(secret.New(skey), at(1679315147))
	if err != nil {
		t.Fatal(err)
	}
	vkey := "w.example/1+" + hash + "+" + base64.StdEncoding.EncodeToString(append([]byte{4}, public...))
	if c.VerifierKey() != vkey {
		t.Errorf("the verifier key is %s, want %s", c.VerifierKey(), vkey)
	}
	signed, err := note.Sign(&note.Note{Text: body}, c)
	if err != nil {
		t.Fatal(err)
	}
	raw := binary.BigEndian.AppendUint32(nil, 0xc9fde0ca)
	raw = binary.BigEndian.AppendUint64(raw, 1679315147)
	raw = append(raw, ed25519.Sign(private, []byte("cosignature/v1\ntime 1679315147\n"+body))...)
	want := body + "\n— w.example/1 " + base64.StdEncoding.EncodeToString(raw) + "\n"
	if string(signed) != want {
		t.Errorf("signed:\n%s\nwant:\n%s", signed, want)
	}
	if _, err := note.Open(signed, note.VerifierList(verifier(t, vkey))); err != nil {
		t.Error(err)
	}
}

func TestAChangedCosignatureIsRefused(t *testing.T) {
	c := cosigner(t, "w", at(1000))
	v := verifier(t, c.VerifierKey())
	sig, err := c.Sign([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if !v.Verify([]byte(body), sig) {
		t.Fatal("the signature itself is refused")
	}
	for i := range sig {
		changed := append([]byte{}, sig...)
		changed[i] ^= 1
		if v.Verify([]byte(body), changed) {
			t.Errorf("a signature with another byte %d is taken", i)
		}
	}
	for name, wrong := range map[string][]byte{"no": {}, "a cut": sig[:len(sig)-1], "a longer": append(slices.Clip(sig), 0), "an untimed": sig[8:]} {
		if v.Verify([]byte(body), wrong) {
			t.Errorf("%s signature is taken", name)
		}
	}
	if v.Verify([]byte(body+"x\n"), sig) {
		t.Error("the signature of another text is taken")
	}
}

// A signature that is right but claims a time past what C2SP allows.
func TestATimeThatNoClockHasIsRefused(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	v := verifier(t, vkeyOf("w", 4, public))
	for _, seconds := range []uint64{math.MaxInt64, math.MaxInt64 + 1} {
		sig := binary.BigEndian.AppendUint64(nil, seconds)
		sig = append(sig, ed25519.Sign(private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", seconds, body))...)
		if got, want := v.Verify([]byte(body), sig), seconds <= math.MaxInt64; got != want {
			t.Errorf("Verify at %d = %t, want %t", seconds, got, want)
		}
	}
	if sig, err := cosigner(t, "w", at(-1)).Sign([]byte(body)); err == nil {
		t.Errorf("signed before 1970: %x", sig)
	}
}

// vkeyOf writes a verifier key with the right hash for its type.
func vkeyOf(name string, kind byte, public ed25519.PublicKey) string {
	if kind == 1 {
		vkey, err := note.NewEd25519VerifierKey(name, public)
		if err != nil {
			panic(err)
		}
		return vkey
	}
	return fmt.Sprintf("%s+%x+%s", name, hashOf(name, kind, public), base64.StdEncoding.EncodeToString(append([]byte{kind}, public...)))
}

func hashOf(name string, kind byte, public ed25519.PublicKey) []byte {
	h := sha256.Sum256(append(append([]byte(name), '\n', kind), public...))
	return h[:4]
}

// TestOneKeyIsNotTwo signs with one Ed25519 key as a log and as a witness.
func TestOneKeyIsNotTwo(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	asLog, asWitness := vkeyOf("one", 1, public), vkeyOf("one", 4, public)
	if v, err := transparency.NewCosignatureVerifier(asLog); err == nil {
		t.Errorf("the key of a log is one of a witness: %v", v)
	}
	if v, err := note.NewVerifier(asWitness); err == nil {
		t.Errorf("the key of a witness is one of a log: %v", v)
	}
	log, err := note.NewVerifier(asLog)
	if err != nil {
		t.Fatal(err)
	}
	witness := verifier(t, asWitness)
	if log.KeyHash() == witness.KeyHash() {
		t.Error("the two have one key hash")
	}
	plain := ed25519.Sign(private, []byte(body))
	timed := append(binary.BigEndian.AppendUint64(nil, 7), ed25519.Sign(private, []byte("cosignature/v1\ntime 7\n"+body))...)
	for name, ok := range map[string]bool{
		"a plain signature as a cosignature":             witness.Verify([]byte(body), plain),
		"a plain signature with a time as a cosignature": witness.Verify([]byte(body), append(make([]byte, 8), plain...)),
		"a cosignature as a plain signature":             log.Verify([]byte(body), timed),
		"a cosignature without its time as a plain one":  log.Verify([]byte(body), timed[8:]),
	} {
		if ok {
			t.Errorf("%s is taken", name)
		}
	}
	if !log.Verify([]byte(body), plain) || !witness.Verify([]byte(body), timed) {
		t.Error("the right ones are refused")
	}
}

func TestAKeyOfAnotherFormIsRefused(t *testing.T) {
	c := cosigner(t, "w.example", time.Now)
	good := c.VerifierKey()
	name, rest, _ := strings.Cut(good, "+")
	hash, material, _ := strings.Cut(rest, "+")
	for _, vkey := range []string{
		"", "w", "w+x", good + "=", strings.ToUpper(name) + "+" + rest, "+" + rest, "w example+" + rest, "w\x01+" + rest, "\xff+" + rest,
		name + "+0" + hash + "+" + material, name + "+" + hash[1:] + "+" + material, name + "+zzzzzzzz+" + material, name + "+00000000+" + material,
		name + "+" + hash + "+" + material[4:], name + "+" + hash + "+!" + material[1:], strings.Repeat("w", 2000) + "+" + rest,
	} {
		if _, err := transparency.NewCosignatureVerifier(vkey); err == nil {
			t.Errorf("%q is taken", vkey)
		}
	}
	for _, name := range []string{"", "a b", "a+b", "a\nb", "\xff"} {
		if _, err := transparency.NewCosignerKey(name); err == nil {
			t.Errorf("the name %q is taken", name)
		}
	}
}

func TestAPrivateKeyOfAnotherFormIsRefusedUnseen(t *testing.T) {
	key, err := transparency.NewCosignerKey("w")
	if err != nil {
		t.Fatal(err)
	}
	text := key.Reveal()
	seed := strings.SplitN(text, "+", 5)[4] // it may hold a plus itself
	for _, wrong := range []string{
		"", strings.TrimPrefix(text, "PRIVATE+KEY+"), strings.Replace(text, "+w+", "+v+", 1), text[:len(text)-4], text + "\n",
		strings.Replace(text, seed, "AQ"+seed[2:], 1),
	} {
		_, err := transparency.NewCosigner(secret.New(wrong), time.Now)
		if err == nil {
			t.Errorf("%q is taken", wrong)
		} else if strings.Contains(err.Error(), seed[4:20]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}
