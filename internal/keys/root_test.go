package keys_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

func TestOnlyTheRightSecretAndNameOpenWhatWasSealed(t *testing.T) {
	none := secret.Value{}
	data := []byte("a private key")
	sealed := newRoot(t, oldSecret, none).Seal("kid-1", data)
	if bytes.Contains(sealed, data) {
		t.Fatal("what was sealed can be read")
	}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	for _, c := range []struct {
		name     string
		root     *keys.Root
		as       string
		sealed   []byte
		opens    bool
		outdated bool
	}{
		{"the same secret", newRoot(t, oldSecret, none), "kid-1", sealed, true, false},
		{"the same secret, and a previous one", newRoot(t, oldSecret, newSecret), "kid-1", sealed, true, false},
		{"a new secret that knows the previous one", newRoot(t, newSecret, oldSecret), "kid-1", sealed, true, true},
		{"another name", newRoot(t, oldSecret, none), "kid-2", sealed, false, false},
		{"another name under the previous secret", newRoot(t, newSecret, oldSecret), "kid-2", sealed, false, false},
		{"a new secret alone", newRoot(t, newSecret, none), "kid-1", sealed, false, false},
		{"a changed bit", newRoot(t, oldSecret, none), "kid-1", flipped, false, false},
		{"nothing", newRoot(t, oldSecret, none), "kid-1", nil, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, outdated, err := c.root.Open(c.as, c.sealed)
			if !c.opens {
				if !errors.Is(err, keys.ErrSealed) || got != nil {
					t.Errorf("opened %q with %v, want ErrSealed", got, err)
				}
				return
			}
			if err != nil || !bytes.Equal(got, data) || outdated != c.outdated {
				t.Errorf("opened %q, outdated %v, %v; want %q, outdated %v", got, outdated, err, data, c.outdated)
			}
		})
	}
}

func TestSealingTwiceGivesDifferentTexts(t *testing.T) {
	root := newRoot(t, newSecret, secret.Value{})
	if bytes.Equal(root.Seal("kid", []byte("x")), root.Seal("kid", []byte("x"))) {
		t.Error("equal keys can be told from what is stored")
	}
}

func TestAfterTheRootSecretChangedTheKeysAreSealedAnew(t *testing.T) {
	store, c := &memory{}, newClock()
	open := func(current, previous secret.Value) (*keys.Ring, error) {
		r := keys.NewRing(keys.Config{Store: store, Root: newRoot(t, current, previous), Alg: keys.ES256, MaxTokenTTL: maxTTL, Now: c.now})
		return r, r.Ensure(t.Context(), operator)
	}
	before, err := open(oldSecret, secret.Value{})
	if err != nil {
		t.Fatal(err)
	}
	kid := signer(t, before, c.now()).KID()

	if _, err := open(newSecret, secret.Value{}); !errors.Is(err, keys.ErrSealed) {
		t.Fatalf("a start without JWT_SECRET_PREVIOUS gave %v, want ErrSealed", err)
	} else if !strings.Contains(err.Error(), kid) || !strings.Contains(err.Error(), "JWT_SECRET_PREVIOUS") {
		t.Errorf("%q does not tell the operator which key and what to do", err)
	}
	if _, err := open(newSecret, oldSecret); err != nil {
		t.Fatalf("a start with JWT_SECRET_PREVIOUS: %v", err)
	}
	after, err := open(newSecret, secret.Value{})
	if err != nil {
		t.Fatalf("the new secret alone, afterwards: %v", err)
	}
	if got := signer(t, after, c.now()).KID(); got != kid || len(store.keys) != 1 {
		t.Errorf("%s signs of %d keys, want the old key %s", got, len(store.keys), kid)
	}
	if _, err := open(oldSecret, secret.Value{}); !errors.Is(err, keys.ErrSealed) {
		t.Errorf("the old secret still opens the key: %v", err)
	}
}

func TestAShortRootSecretIsRefused(t *testing.T) {
	long, short := strings.Repeat("s", keys.MinRootSecret), strings.Repeat("s", keys.MinRootSecret-1)
	for _, c := range []struct {
		name              string
		current, previous string
		ok                bool
	}{
		{"32 bytes", long, "", true},
		{"32 bytes twice", long, long + "!", true},
		{"31 bytes", short, "", false},
		{"none", "", "", false},
		{"a short previous one", long, short, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := keys.NewRoot(secret.New(c.current), secret.New(c.previous))
			if (err == nil) != c.ok {
				t.Fatalf("NewRoot gave %v", err)
			}
			if err != nil && strings.Contains(err.Error(), short) {
				t.Errorf("%q shows the secret", err)
			}
		})
	}
}

func TestANewRootSecretIsLongEnoughAndRandom(t *testing.T) {
	a, b := keys.NewRootSecret(), keys.NewRootSecret()
	if a.Equal(b) {
		t.Error("two new root secrets are equal")
	}
	newRoot(t, a, b)
}

func TestAFingerprintIsKnownUnderTheCurrentAndThePreviousSecret(t *testing.T) {
	password, none := secret.New("sidp_something"), secret.Value{}
	sum, keyID := newRoot(t, oldSecret, none).Fingerprint(password)
	for _, c := range []struct {
		name           string
		root           *keys.Root
		known, current bool
	}{
		{"current", newRoot(t, oldSecret, none), true, true},
		{"previous", newRoot(t, newSecret, oldSecret), true, false},
		{"forgotten", newRoot(t, newSecret, none), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, known, current := c.root.FingerprintUnder(keyID, password)
			if known != c.known || current != c.current || known != bytes.Equal(got, sum) {
				t.Errorf("known %v, current %v, equal %v", known, current, bytes.Equal(got, sum))
			}
			if other, _, _ := c.root.FingerprintUnder(keyID, secret.New("sidp_anything")); bytes.Equal(other, sum) {
				t.Error("another secret has the same fingerprint")
			}
		})
	}
	if strings.Contains(fmt.Sprintf("%s %x", sum, sum), password.Reveal()) {
		t.Error("the fingerprint shows the secret")
	}
}
