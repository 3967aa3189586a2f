package keys_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
)

// A key that signed from the day before yesterday would retire the old one now.
func TestAKeyCannotHaveBegunToSignBeforeItWasMade(t *testing.T) {
	store, c := &memory{}, newClock()
	r := newRing(t, store, c, keys.EdDSA)
	ensure(t, r)
	_, err := r.Rotate(t.Context(), operator, -48*time.Hour)
	f := fault.As(err)
	if f == nil || f.Code != fault.CodeValidation || len(f.Fields) != 1 || f.Fields[0].Field != "activateIn" || f.Fields[0].Rule != "minimum" {
		t.Errorf("a rotation two days ago gave %v, want that activateIn has a minimum", err)
	}
	if len(store.keys) != 1 || !store.keys[0].RetiresAt.IsZero() || len(store.events) != 1 {
		t.Errorf("a refused rotation left %d keys and %d events", len(store.keys), len(store.events))
	}
}

// After a compromise no older key may verify anything: not the one that signs,
// not one that was on its way out, not one still to sign.
func TestReplacingTheKeysRetiresEveryOlderOneAtOnce(t *testing.T) {
	store, c := &memory{}, newClock()
	r := newRing(t, store, c, keys.EdDSA)
	ensure(t, r)
	for _, activateIn := range []time.Duration{0, 24 * time.Hour} {
		if _, err := r.Rotate(t.Context(), operator, activateIn); err != nil {
			t.Fatal(err)
		}
	}
	c.advance(time.Minute)
	next, err := r.Replace(t.Context(), operator)
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []time.Duration{0, 25 * time.Hour} {
		now := next.ActivatesAt.Add(after)
		if got := signer(t, r, now).KID(); got != next.KID {
			t.Errorf("after %s %s signs, want the new key %s", after, got, next.KID)
		}
	}
	if set := published(t, r); len(set) != 1 || set[next.KID] == nil {
		t.Errorf("%d keys are published, want the new one alone", len(set))
	}
	for _, k := range r.List() {
		if _, _, verifies := r.PublicKey(k.KID); verifies != (k.KID == next.KID) {
			t.Errorf("key %s, which retires at %s, verifies: %t", k.KID, k.RetiresAt, verifies)
		}
	}
	for i, e := range store.events {
		told := string(e.Details.JSON())
		for _, old := range store.keys[:3] {
			if got, want := strings.Contains(told, `"revokedKeys":[`) && strings.Contains(told, old.KID), i == 3; got != want {
				t.Errorf("event %d says %s", i, told)
			}
		}
	}
}

func TestReplacingLeavesTheTimeAtWhichAKeyHasRetired(t *testing.T) {
	store, c := &memory{}, newClock()
	r := newRing(t, store, c, keys.EdDSA)
	ensure(t, r)
	if _, err := r.Replace(t.Context(), operator); err != nil {
		t.Fatal(err)
	}
	retired := store.keys[0].RetiresAt
	c.advance(time.Hour)
	if _, err := r.Replace(t.Context(), operator); err != nil {
		t.Fatal(err)
	}
	if got := store.keys[0].RetiresAt; !got.Equal(retired) {
		t.Errorf("the first key retired at %s, and later at %s", retired, got)
	}
}

// Whether an unknown key id is known to nobody cannot be told while the store is
// away; and asking it more often than once a second does not help it.
func TestWhileTheStoreIsAwayAnUnknownKeyIDIsNotCalledUnknown(t *testing.T) {
	store, c := &memory{}, newClock()
	r := newRing(t, store, c, keys.ES256)
	ensure(t, r)
	store.reads, store.broken = 0, errors.New("the disk is away")
	for range 1000 {
		if err := r.Refresh(t.Context()); !errors.Is(err, store.broken) {
			t.Fatalf("Refresh gave %v, want the failure of the store", err)
		}
	}
	if store.reads != 1 {
		t.Errorf("a store that is away was asked %d times within a second, want once", store.reads)
	}
	store.broken = nil
	if err := r.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Refresh(t.Context()); err != nil {
		t.Errorf("the keys were read since, and Refresh gave %v", err)
	}
}

// Otherwise who hangs up would make the server turn others away.
func TestACallerWhoHangsUpDoesNotSpoilTheReading(t *testing.T) {
	store := &slow{memory: &memory{}}
	r := newRing(t, store, newClock(), keys.ES256)
	ensure(t, r)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Refresh(gone); err != nil {
		t.Errorf("Refresh for a caller who hung up gave %v", err)
	}
}

// slow is a store that minds the context, and whose next read waits where it is
// asked to.
type slow struct {
	*memory
	mu            sync.Mutex
	entered, wait chan struct{}
	reading, most int
}

func (s *slow) SigningKeys(ctx context.Context) ([]keys.Stored, error) {
	s.mu.Lock()
	all, err := s.memory.SigningKeys(ctx)
	entered, wait := s.entered, s.wait
	s.entered, s.wait = nil, nil
	s.reading++
	s.most = max(s.most, s.reading)
	s.mu.Unlock()
	if wait != nil {
		close(entered)
		<-wait
	}
	s.mu.Lock()
	s.reading--
	s.mu.Unlock()
	return all, errors.Join(err, ctx.Err())
}

func TestAnOlderReadingDoesNotReplaceANewerOne(t *testing.T) {
	store := &slow{memory: &memory{}}
	c := newClock()
	r := newRing(t, store, c, keys.ES256)
	ensure(t, r)
	entered, wait := make(chan struct{}), make(chan struct{})
	store.mu.Lock()
	store.entered, store.wait, store.most = entered, wait, 0
	store.mu.Unlock()
	var reading sync.WaitGroup
	load := func() {
		if err := r.Load(t.Context()); err != nil {
			t.Error(err)
		}
	}
	reading.Go(load)
	<-entered // it has read one key
	made, err := newRing(t, store.memory, c, keys.ES256).Rotate(t.Context(), operator, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		reading.Go(load)
	}
	close(wait)
	reading.Wait()
	if _, _, known := r.PublicKey(made.KID); !known {
		t.Error("the key that was made during a reading is not known after later ones")
	}
	if store.most != 1 {
		t.Errorf("%d readings at once, want one after the other", store.most)
	}
}

// counting is a store that counts its transactions.
type counting struct {
	*memory
	transactions int
}

func (s *counting) ChangeSigningKeys(ctx context.Context, change func([]keys.Stored) ([]keys.Stored, audit.Event, error)) error {
	s.transactions++
	return s.memory.ChangeSigningKeys(ctx, change)
}

// An RSA key takes up to seconds to make, and nobody else may write during a
// transaction: where no key can be made, none begins.
func TestAKeyIsMadeBeforeTheTransaction(t *testing.T) {
	store := &counting{memory: &memory{}}
	r := newRing(t, store, newClock(), "none")
	if err := r.Ensure(t.Context(), operator); err == nil {
		t.Error("Ensure made a key for no algorithm")
	}
	if _, err := r.Rotate(t.Context(), operator, 0); err == nil {
		t.Error("Rotate made a key for no algorithm")
	}
	if store.transactions != 0 {
		t.Errorf("%d transactions were begun before there was a key to write", store.transactions)
	}
}

func TestAKeyThatRetiredLongAgoIsNotOpened(t *testing.T) {
	store, c := &memory{}, newClock()
	r := newRing(t, store, c, keys.EdDSA)
	ensure(t, r)
	next, err := r.Rotate(t.Context(), operator, 0)
	if err != nil {
		t.Fatal(err)
	}
	store.keys[0].Sealed = []byte("sealed under a secret that was lost")
	c.at = store.keys[0].RetiresAt.Add(24 * time.Hour)
	if err := r.Load(t.Context()); !errors.Is(err, keys.ErrSealed) {
		t.Errorf("a key that retired a day ago and does not open gave %v, want ErrSealed", err)
	}
	c.advance(time.Microsecond)
	if err := r.Load(t.Context()); err != nil {
		t.Fatalf("a key that retired more than a day ago stops the server: %v", err)
	}
	if got := r.List(); len(got) != 1 || got[0].KID != next.KID {
		t.Errorf("%d keys are known, want the one that signs", len(got))
	}
	if !slices.ContainsFunc(store.keys, func(k keys.Stored) bool { return k.KID != next.KID }) {
		t.Error("the old key is gone from the store")
	}
}
