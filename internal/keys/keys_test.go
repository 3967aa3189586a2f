package keys_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
)

// published gives the members of every key in the key set, by kid.
func published(t *testing.T, r *keys.Ring) map[string]map[string]any {
	t.Helper()
	raw, err := r.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil || set.Keys == nil {
		t.Fatalf("the key set %s is not one: %v", raw, err)
	}
	byKID := map[string]map[string]any{}
	for _, k := range set.Keys {
		byKID[k["kid"].(string)] = k
	}
	return byKID
}

func signer(t *testing.T, r *keys.Ring, now time.Time) keys.Signer {
	t.Helper()
	s, err := r.Signer(now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStartingTwiceMakesOneKey(t *testing.T) {
	store, c := &memory{}, newClock()
	first, second := newRing(t, store, c, keys.ES256), newRing(t, store, c, keys.ES256)
	ensure(t, first)
	c.advance(time.Hour)
	ensure(t, second)
	if len(store.keys) != 1 || len(store.events) != 1 {
		t.Fatalf("two starts made %d keys and %d events, want one of each", len(store.keys), len(store.events))
	}
	if a, b := signer(t, first, c.now()).KID(), signer(t, second, c.now()).KID(); a != b {
		t.Errorf("two nodes of one store sign with %s and %s", a, b)
	}
	if e := store.events[0]; e.Action != audit.KeyRotated || e.Target.ID != store.keys[0].KID || e.Actor != operator.Actor {
		t.Errorf("the event %+v does not name the new key and who made it", e)
	}
}

func TestAnEmptyRingCannotSign(t *testing.T) {
	c := newClock()
	r := newRing(t, &memory{}, c, keys.ES256)
	if _, err := r.Signer(c.now()); !fault.Is(err, fault.CodeUnavailable) {
		t.Errorf("a ring without keys gave %v, want UNAVAILABLE", err)
	}
	if got := published(t, r); len(got) != 0 {
		t.Errorf("a ring without keys publishes %v", got)
	}
}

func TestTheNextKeyIsPublishedBeforeItSigns(t *testing.T) {
	store, c := &memory{}, newClock()
	r := newRing(t, store, c, keys.EdDSA)
	ensure(t, r)
	old := signer(t, r, c.now()).KID()
	next, err := r.Rotate(t.Context(), operator, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if next.KID == old {
		t.Fatal("the rotation made no new key")
	}
	activates, retires := c.now().Add(24*time.Hour), c.now().Add(24*time.Hour+maxTTL+5*time.Minute)
	for _, step := range []struct {
		name      string
		at        time.Time
		signs     string
		published []string
	}{
		{"at once", c.now(), old, []string{old, next.KID}},
		{"just before it activates", activates.Add(-time.Microsecond), old, []string{old, next.KID}},
		{"when it activates", activates, next.KID, []string{old, next.KID}},
		{"while the last token of the old one may live", activates.Add(maxTTL), next.KID, []string{old, next.KID}},
		{"just before the old one retires", retires.Add(-time.Microsecond), next.KID, []string{old, next.KID}},
		{"when the old one retires", retires, next.KID, []string{next.KID}},
		{"a year later", retires.Add(365 * 24 * time.Hour), next.KID, []string{next.KID}},
	} {
		t.Run(step.name, func(t *testing.T) {
			c.at = step.at
			if got := signer(t, r, c.now()).KID(); got != step.signs {
				t.Errorf("%s signs, want %s", got, step.signs)
			}
			set := published(t, r)
			if len(set) != len(step.published) {
				t.Errorf("%d keys are published, want %d", len(set), len(step.published))
			}
			for _, kid := range []string{old, next.KID} {
				_, inSet := set[kid]
				_, alg, verifies := r.PublicKey(kid)
				if want := slices.Contains(step.published, kid); inSet != want || verifies != want {
					t.Errorf("%s: in the key set %v, verifies %v, want %v", kid, inSet, verifies, want)
				} else if want && alg != keys.EdDSA {
					t.Errorf("%s verifies with %q", kid, alg)
				}
			}
		})
	}
	if _, _, known := r.PublicKey("unheard-of"); known {
		t.Error("a key nobody made verifies")
	}
	if got := r.List(); len(got) != 2 || got[0].KID != old {
		t.Errorf("the operator sees %d keys, want both, oldest first", len(got))
	}
}

func TestAKeyThatWasOvertakenNeverSigns(t *testing.T) {
	store, c := &memory{}, newClock()
	r := newRing(t, store, c, keys.EdDSA)
	ensure(t, r)
	var last keys.Stored
	for _, activateIn := range []time.Duration{24 * time.Hour, 0} {
		c.advance(time.Minute)
		var err error
		if last, err = r.Rotate(t.Context(), operator, activateIn); err != nil {
			t.Fatal(err)
		}
	}
	for _, after := range []time.Duration{0, 23 * time.Hour, 24 * time.Hour, 365 * 24 * time.Hour} {
		c.at = last.ActivatesAt.Add(after)
		got := signer(t, r, c.now()).KID()
		if got != last.KID {
			t.Errorf("after %v %s signs, want the newest, %s", after, got, last.KID)
		}
		if _, _, verifies := r.PublicKey(got); !verifies {
			t.Errorf("after %v what is signed does not verify", after)
		}
	}
}

func TestARetiredKeyNeverSigns(t *testing.T) {
	store, c := &memory{}, newClock()
	r := newRing(t, store, c, keys.EdDSA)
	ensure(t, r)
	store.keys[0].RetiresAt = c.now().Add(time.Hour)
	if err := r.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	signer(t, r, c.now().Add(time.Hour-time.Microsecond))
	if _, err := r.Signer(c.now().Add(time.Hour)); !fault.Is(err, fault.CodeUnavailable) {
		t.Errorf("the only key has retired and signing gave %v, want UNAVAILABLE", err)
	}
}

func TestTheNewestOfTheKeysOfOneMomentSigns(t *testing.T) {
	store, c := &memory{}, newClock()
	r := newRing(t, store, c, keys.EdDSA)
	ensure(t, r)
	for range 16 {
		next, err := r.Rotate(t.Context(), operator, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := signer(t, r, c.now()).KID(); got != next.KID {
			t.Fatalf("%s signs, want the one just made, %s", got, next.KID)
		}
	}
	all := r.List()
	for i := range all[1:] {
		if !all[i].CreatedAt.Before(all[i+1].CreatedAt) {
			t.Errorf("key %d is not older than key %d", i, i+1)
		}
	}
}

func TestAnotherAlgorithmIsAnnouncedBesideTheOldOne(t *testing.T) {
	store, c := &memory{}, newClock()
	ensure(t, newRing(t, store, c, keys.ES256))
	r := newRing(t, store, c, keys.EdDSA)
	ensure(t, r)
	c.advance(time.Second)
	if _, err := r.Rotate(t.Context(), operator, 0); err != nil {
		t.Fatal(err)
	}
	if got := r.Algs(); !slices.Equal(got, []string{"ES256", "EdDSA"}) {
		t.Errorf("the algorithms announced are %v", got)
	}
	if got := signer(t, r, c.now()).Alg(); got != keys.EdDSA {
		t.Errorf("tokens are signed with %s after an immediate rotation to EdDSA", got)
	}
	c.advance(maxTTL + 6*time.Minute)
	if got := r.Algs(); !slices.Equal(got, []string{"EdDSA"}) {
		t.Errorf("the algorithms announced after the old key retired are %v", got)
	}
}

func TestAnUnknownAlgorithmMakesNoKey(t *testing.T) {
	store := &memory{}
	if err := newRing(t, store, newClock(), "none").Ensure(t.Context(), operator); err == nil || len(store.keys) != 0 {
		t.Errorf("a key for the algorithm none was made: %v, %d keys", err, len(store.keys))
	}
}

func TestASignatureVerifiesAgainstThePublishedKey(t *testing.T) {
	for _, alg := range []keys.Alg{keys.ES256, keys.EdDSA, keys.RS256} {
		t.Run(string(alg), func(t *testing.T) {
			c := newClock()
			r := newRing(t, &memory{}, c, alg)
			ensure(t, r)
			s := signer(t, r, c.now())
			entry := published(t, r)[s.KID()]
			if entry["alg"] != string(alg) || entry["use"] != "sig" || entry["kid"] != s.KID() {
				t.Errorf("the published key %v lacks its kid, alg or use", entry)
			}
			for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k", "oth"} {
				if _, leaked := entry[private]; leaked {
					t.Errorf("the published key has the private member %q", private)
				}
			}
			raw, err := r.JWKS()
			if err != nil {
				t.Fatal(err)
			}
			var set jose.JSONWebKeySet
			if err := json.Unmarshal(raw, &set); err != nil || len(set.Key(s.KID())) != 1 {
				t.Fatalf("go-jose does not find the key in %s: %v", raw, err)
			}
			encode := base64.RawURLEncoding.EncodeToString
			message := encode([]byte(`{"alg":"`+string(alg)+`","kid":"`+s.KID()+`"}`)) + "." + encode([]byte(`{"sub":"me"}`))
			signature, err := s.Sign([]byte(message))
			if err != nil {
				t.Fatal(err)
			}
			signed, err := jose.ParseSignedCompact(message+"."+encode(signature), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
			if err != nil {
				t.Fatal(err)
			}
			if payload, err := signed.Verify(set.Key(s.KID())[0]); err != nil || string(payload) != `{"sub":"me"}` {
				t.Errorf("go-jose read %q: %v", payload, err)
			}
			ensure(t, r)
			if again := signer(t, r, c.now()); again.KID() != s.KID() {
				t.Error("reading the keys again changed the signing key")
			}
		})
	}
}

func TestUnknownKeyIDsReadTheStoreOnceASecond(t *testing.T) {
	store, c := &memory{}, newClock()
	r := newRing(t, store, c, keys.ES256)
	ensure(t, r)
	store.reads = 0
	refresh := func(times int) {
		t.Helper()
		for range times {
			if err := r.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	refresh(1000)
	c.advance(time.Second - time.Nanosecond)
	refresh(1000)
	if store.reads != 1 {
		t.Errorf("2000 unknown key ids within a second read the store %d times, want once", store.reads)
	}
	other := newRing(t, store, c, keys.ES256)
	made, err := other.Rotate(t.Context(), operator, 0)
	if err != nil {
		t.Fatal(err)
	}
	store.reads = 0
	c.advance(time.Nanosecond)
	refresh(1000)
	if store.reads != 1 {
		t.Errorf("the next second read the store %d times, want once", store.reads)
	}
	if _, _, known := r.PublicKey(made.KID); !known {
		t.Error("the key another node made is still unknown")
	}
}

func TestAStoreThatIsAwayIsReportedAndTheKnownKeysStay(t *testing.T) {
	store, c := &memory{}, newClock()
	r := newRing(t, store, c, keys.ES256)
	ensure(t, r)
	store.broken = errors.New("the disk is away")
	_, rotating := r.Rotate(t.Context(), operator, 0)
	for name, err := range map[string]error{
		"Ensure": r.Ensure(t.Context(), operator), "Load": r.Load(t.Context()),
		"Refresh": r.Refresh(t.Context()), "Rotate": rotating,
	} {
		if !errors.Is(err, store.broken) {
			t.Errorf("%s gave %v, want the failure of the store", name, err)
		}
	}
	signer(t, r, c.now())
	if len(published(t, r)) != 1 {
		t.Error("the known key is published no more")
	}
}
