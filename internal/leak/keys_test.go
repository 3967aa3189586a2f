package leak_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/leak"
)

func pemOf(t *testing.T, public crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func p256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

type entry struct {
	ID      string `json:"key_identifier"`
	Key     string `json:"key"`
	Current *bool  `json:"is_current,omitempty"`
}

func file(t *testing.T, entries ...entry) []byte {
	t.Helper()
	text, err := json.Marshal(map[string][]entry{"public_keys": entries})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestOnlyACurrentKeyOfThatIdSigns(t *testing.T) {
	one, two, old := p256(t), p256(t), p256(t)
	keys, err := leak.ParseKeys(file(t, entry{"one", pemOf(t, one.Public()), new(true)}, entry{"two", pemOf(t, two.Public()), nil}, entry{"old", pemOf(t, old.Public()), new(false)}))
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(`[{"token":"x"}]`)
	sign := func(key *ecdsa.PrivateKey, body []byte) string {
		sum := sha256.Sum256(body)
		signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(signature)
	}
	for _, c := range []struct {
		id, signature string
		good          bool
	}{
		{"one", sign(one, body), true},
		{"two", sign(two, body), true},
		{"one", sign(two, body), false},
		{"old", sign(old, body), false},
		{"", sign(one, body), false},
		{"one", sign(one, append(body, ' ')), false},
		{"one", "", false},
		{"one", "====", false},
		{"one", strings.Repeat("A", 1<<20), false},
	} {
		if err := keys.Verify(c.id, c.signature, body); (err == nil) != c.good || err != nil && !errors.Is(err, leak.ErrUnsigned) {
			t.Errorf("%q by %.20s: %v", c.id, c.signature, err)
		}
	}
	if err := (leak.Keys{}).Verify("one", sign(one, body), body); !errors.Is(err, leak.ErrUnsigned) {
		t.Errorf("without keys: %v", err)
	}
}

func TestAFileOfKeysSaysWhatIsWrongWithIt(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := pemOf(t, p256(t).Public())
	var many []entry
	for range 33 {
		many = append(many, entry{ID: "k", Key: good})
	}
	for name, c := range map[string]struct {
		text []byte
		says string
	}{
		"no JSON":       {[]byte("keys"), "must be a JSON object"},
		"no keys":       {[]byte("{}"), "must hold 1 to 32 keys"},
		"too many":      {file(t, many...), "must hold 1 to 32 keys"},
		"too long":      {[]byte(strings.Repeat(" ", leak.MaxKeyFile+1)), "at most 64 KiB"},
		"no id":         {file(t, entry{Key: good}), "key_identifier"},
		"no PEM":        {file(t, entry{ID: "k", Key: "x"}), "PEM block"},
		"no key":        {file(t, entry{ID: "k", Key: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}), "key k"},
		"another curve": {file(t, entry{ID: "k", Key: pemOf(t, p384.Public())}), "P-256"},
		"another kind":  {file(t, entry{ID: "k", Key: pemOf(t, weak.Public())}), "P-256"},
	} {
		if _, err := leak.ParseKeys(c.text); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
