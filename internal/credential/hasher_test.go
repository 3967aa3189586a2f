package credential_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

var (
	oldRoot = secret.New(strings.Repeat("old!", 8))
	newRoot = secret.New(strings.Repeat("new!", 8))
)

// clock is the time of a test.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time { return c.at }

func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

func newHasher(t testing.TB, mode credential.Mode, c *clock, current, previous secret.Value) *credential.Hasher {
	t.Helper()
	root, err := keys.NewRoot(current, previous)
	if err != nil {
		t.Fatal(err)
	}
	return credential.NewHasher(root, mode, c.now)
}

func mustHash(t testing.TB, h *credential.Hasher, s credential.Secret) credential.Verifier {
	t.Helper()
	v, err := h.Hash(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func verify(t testing.TB, h *credential.Hasher, s credential.Secret, v credential.Verifier) (bool, *credential.Verifier) {
	t.Helper()
	ok, renewed, err := h.Verify(t.Context(), s, v, "client")
	if err != nil {
		t.Fatal(err)
	}
	return ok, renewed
}

func TestTheRightSecretVerifiesAndAWrongOneDoesNot(t *testing.T) {
	for _, mode := range []credential.Mode{credential.Bcrypt, credential.HMAC} {
		t.Run(string(mode), func(t *testing.T) {
			h := newHasher(t, mode, newClock(), newRoot, secret.Value{})
			s := mustSecret(t)
			v := mustHash(t, h, s)
			if ok, renewed := verify(t, h, s, v); !ok || renewed != nil {
				t.Errorf("the right secret: verified %v, renewed %v", ok, renewed)
			}
			if ok, renewed := verify(t, h, mustSecret(t), v); ok || renewed != nil {
				t.Errorf("a wrong secret: verified %v, renewed %v", ok, renewed)
			}
		})
	}
}

func TestASecretIsKeptAsBcryptOfCostTen(t *testing.T) { // (R37)
	h := newHasher(t, credential.Bcrypt, newClock(), newRoot, secret.Value{})
	s := mustSecret(t)
	v := mustHash(t, h, s)
	if cost, err := bcrypt.Cost(v.Bcrypt); err != nil || cost != 10 {
		t.Errorf("the stored hash has cost %d: %v", cost, err)
	}
	if err := bcrypt.CompareHashAndPassword(v.Bcrypt, []byte(s.Value().Reveal())); err != nil {
		t.Errorf("a plain bcrypt implementation does not verify it: %v", err)
	}
	if kept := string(v.Bcrypt) + string(v.Fingerprint); strings.Contains(kept, s.Value().Reveal()) {
		t.Error("the secret itself is kept")
	}
}

func TestInHMACModeNothingButTheFingerprintIsKept(t *testing.T) {
	v := mustHash(t, newHasher(t, credential.HMAC, newClock(), newRoot, secret.Value{}), mustSecret(t))
	if v.Bcrypt != nil || len(v.Fingerprint) != 32 || v.FingerprintKeyID == "" {
		t.Errorf("%+v is kept", v)
	}
}

func TestSecretsSurviveAChangeOfTheRootSecret(t *testing.T) {
	for _, c := range []struct {
		name     string
		mode     credential.Mode
		previous secret.Value
		survives bool
	}{
		{"bcrypt, the previous one is known", credential.Bcrypt, oldRoot, true},
		{"bcrypt, the previous one is lost", credential.Bcrypt, secret.Value{}, true},
		{"hmac, the previous one is known", credential.HMAC, oldRoot, true},
		{"hmac, the previous one is lost", credential.HMAC, secret.Value{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustSecret(t)
			v := mustHash(t, newHasher(t, c.mode, newClock(), oldRoot, secret.Value{}), s)
			h := newHasher(t, c.mode, newClock(), newRoot, c.previous)
			if ok, renewed := verify(t, h, mustSecret(t), v); ok || renewed != nil {
				t.Errorf("a wrong secret: verified %v, renewed %v", ok, renewed)
			}
			ok, renewed := verify(t, h, s, v)
			if ok != c.survives || (renewed != nil) != c.survives {
				t.Fatalf("the right secret: verified %v, renewed %v, want %v", ok, renewed, c.survives)
			}
			if !c.survives {
				return
			}
			if string(renewed.Bcrypt) != string(v.Bcrypt) {
				t.Error("renewing touched the bcrypt hash")
			}
			renewed.Bcrypt = nil // so that nothing but the fingerprint can decide
			alone := newHasher(t, c.mode, newClock(), newRoot, secret.Value{})
			if ok, again := verify(t, alone, s, *renewed); !ok || again != nil {
				t.Errorf("the renewed verifier: verified %v, renewed %v", ok, again)
			}
			if ok, _ := verify(t, alone, mustSecret(t), *renewed); ok {
				t.Error("the renewed verifier takes any secret")
			}
		})
	}
}

func TestGuessesDoNotBuyBcryptTime(t *testing.T) { // (R37)
	c := newClock()
	s := mustSecret(t)
	v := mustHash(t, newHasher(t, credential.Bcrypt, c, oldRoot, secret.Value{}), s)
	h := newHasher(t, credential.Bcrypt, c, newRoot, secret.Value{})
	wrong := mustSecret(t)
	attempt := func(with credential.Secret, client string) (bool, error) {
		ok, _, err := h.Verify(t.Context(), with, v, client)
		return ok, err
	}
	for i := range 5 {
		if ok, err := attempt(wrong, "guesser"); ok || err != nil {
			t.Fatalf("wrong secret %d: %v, %v", i+1, ok, err)
		}
	}
	for _, with := range []credential.Secret{wrong, s} {
		ok, err := attempt(with, "guesser")
		if ok || !fault.Is(err, fault.CodeRateLimited) {
			t.Fatalf("after five wrong secrets: %v, %v, want RATE_LIMITED", ok, err)
		}
		if wait := fault.As(err).RetryAfter; wait <= 0 || wait > time.Minute {
			t.Errorf("the client is told to wait %v", wait)
		}
	}
	if ok, err := attempt(s, "another"); !ok || err != nil {
		t.Errorf("another client: %v, %v", ok, err)
	}
	c.advance(time.Minute - time.Second)
	if _, err := attempt(s, "guesser"); !fault.Is(err, fault.CodeRateLimited) || fault.As(err).RetryAfter != time.Second {
		t.Errorf("a second before the minute is over: %v", err)
	}
	c.advance(2 * time.Second)
	if ok, err := attempt(wrong, "guesser"); ok || err != nil {
		t.Errorf("a wrong secret after a minute: %v, %v", ok, err)
	}
	if ok, err := attempt(s, "guesser"); !ok || err != nil {
		t.Errorf("the right secret after a minute: %v, %v", ok, err)
	}
}

func TestGuessesAtTheSameTimeShareOneBudget(t *testing.T) { // (R37)
	c := newClock()
	v := mustHash(t, newHasher(t, credential.Bcrypt, c, oldRoot, secret.Value{}), mustSecret(t))
	h := newHasher(t, credential.Bcrypt, c, newRoot, secret.Value{})
	wrong := mustSecret(t)
	var compared atomic.Int32
	var all sync.WaitGroup
	for range 60 {
		all.Go(func() {
			ok, _, err := h.Verify(t.Context(), wrong, v, "guesser")
			if err == nil {
				compared.Add(1)
			}
			if ok || err != nil && !fault.Is(err, fault.CodeRateLimited) {
				t.Errorf("a wrong secret gave %v, %v", ok, err)
			}
		})
	}
	all.Wait()
	if n := compared.Load(); n != 5 {
		t.Errorf("bcrypt compared %d wrong secrets, want 5", n)
	}
}

func TestRightSecretsUseUpNothing(t *testing.T) { // (R37)
	c := newClock()
	s := mustSecret(t)
	v := mustHash(t, newHasher(t, credential.Bcrypt, c, oldRoot, secret.Value{}), s)
	h := newHasher(t, credential.Bcrypt, c, newRoot, secret.Value{})
	wrong := mustSecret(t)
	for i := range 5 {
		for range 3 {
			if ok, _ := verify(t, h, s, v); !ok {
				t.Fatalf("the right secret does not verify after %d wrong ones", i)
			}
		}
		if ok, _ := verify(t, h, wrong, v); ok {
			t.Fatal("a wrong secret verified")
		}
	}
	if _, _, err := h.Verify(t.Context(), s, v, "client"); !fault.Is(err, fault.CodeRateLimited) {
		t.Errorf("after five wrong secrets: %v, want RATE_LIMITED", err)
	}
}

func TestWrongSecretsWithAKnownFingerprintUseUpNothing(t *testing.T) {
	c := newClock()
	h := newHasher(t, credential.Bcrypt, c, newRoot, secret.Value{})
	s := mustSecret(t)
	v, wrong := mustHash(t, h, s), mustSecret(t)
	for range 100 {
		if ok, _ := verify(t, h, wrong, v); ok {
			t.Fatal("a wrong secret verified")
		}
	}
	if ok, _ := verify(t, h, s, v); !ok {
		t.Error("the right secret does not verify after a hundred wrong ones")
	}
}

// Those who make many credentials at once queue, and no longer than their requests may.
func TestAHashThatWouldComeTooLateIsNotMade(t *testing.T) {
	h := newHasher(t, credential.Bcrypt, newClock(), newRoot, secret.Value{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var refused atomic.Int64
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			_, err := h.Hash(ctx, mustSecret(t))
			cancel() // one has been made: the others come too late
			if err == nil {
				return
			}
			if f := fault.As(err); f == nil || f.Kind != fault.Unavailable || f.RetryAfter == 0 {
				t.Errorf("Hash gave %v, want UNAVAILABLE", err)
			}
			refused.Add(1)
		})
	}
	all.Wait()
	if refused.Load() == 0 {
		t.Error("every hash was made, however late")
	}
}

func TestADamagedHashIsAnErrorAndNotAWrongSecret(t *testing.T) {
	h := newHasher(t, credential.Bcrypt, newClock(), newRoot, secret.Value{})
	v := credential.Verifier{Bcrypt: []byte("$2a$10$damaged"), FingerprintKeyID: "forgotten"}
	if ok, _, err := h.Verify(t.Context(), mustSecret(t), v, "client"); ok || err == nil {
		t.Errorf("a damaged hash gave %v, %v", ok, err)
	}
}
