package keys_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

var (
	oldSecret = secret.New(strings.Repeat("old!", 8))
	newSecret = secret.New(strings.Repeat("new!", 8))
	operator  = audit.System("test")
)

const maxTTL = time.Hour

// memory is a keys.Store of one process.
type memory struct {
	keys   []keys.Stored
	events []audit.Event
	reads  int
	broken error
}

func (m *memory) SigningKeys(context.Context) ([]keys.Stored, error) {
	m.reads++
	if m.broken != nil {
		return nil, m.broken
	}
	return m.oldestFirst(), nil
}

func (m *memory) oldestFirst() []keys.Stored {
	return slices.SortedFunc(slices.Values(m.keys), func(a, b keys.Stored) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.KID, b.KID))
	})
}

func (m *memory) ChangeSigningKeys(_ context.Context, change func([]keys.Stored) ([]keys.Stored, audit.Event, error)) error {
	if m.broken != nil {
		return m.broken
	}
	changed, event, err := change(m.oldestFirst())
	if err != nil {
		return err
	}
	for _, k := range changed {
		if i := slices.IndexFunc(m.keys, func(had keys.Stored) bool { return had.KID == k.KID }); i >= 0 {
			m.keys[i] = k
		} else {
			m.keys = append(m.keys, k)
		}
	}
	m.events = append(m.events, event)
	return nil
}

func (m *memory) ResealSigningKey(_ context.Context, kid string, sealed []byte) error {
	for i := range m.keys {
		if m.keys[i].KID == kid {
			m.keys[i].Sealed = sealed
			return nil
		}
	}
	return errors.New("there is no such key")
}

// clock is the time of a test.
type clock struct{ at time.Time }

func newClock() *clock { return &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time { return c.at }

func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

func newRoot(t *testing.T, current, previous secret.Value) *keys.Root {
	t.Helper()
	root, err := keys.NewRoot(current, previous)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func newRing(t *testing.T, store keys.Store, c *clock, alg keys.Alg) *keys.Ring {
	t.Helper()
	return keys.NewRing(keys.Config{
		Store: store, Root: newRoot(t, newSecret, secret.Value{}), Alg: alg, MaxTokenTTL: maxTTL, Now: c.now,
	})
}

func ensure(t *testing.T, r *keys.Ring) {
	t.Helper()
	if err := r.Ensure(t.Context(), operator); err != nil {
		t.Fatal(err)
	}
}
