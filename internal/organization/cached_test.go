package organization_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/organization"
)

// counted is a Reader that counts how often it is asked.
type counted struct {
	reads int
	err   error
}

func (c *counted) Organization(_ context.Context, id uuid.UUID) (organization.Organization, error) {
	c.reads++
	return organization.Organization{ID: id, Revision: int64(c.reads)}, c.err
}

func newCached(t *testing.T, inner organization.Reader) *organization.Cached {
	t.Helper()
	cached, err := organization.NewCached(inner, 10, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return cached
}

func TestWhatWasReadIsRememberedForAWhile(t *testing.T) {
	inner := &counted{}
	cached := newCached(t, inner)
	first, second := uuid.New(), uuid.New()
	for i, c := range []struct {
		id    uuid.UUID
		reads int
	}{{first, 1}, {first, 1}, {second, 2}, {first, 1}, {second, 2}} {
		o, err := cached.Organization(t.Context(), c.id)
		if err != nil || o.ID != c.id || o.Revision != int64(c.reads) {
			t.Errorf("question %d gave %+v, %v, want what was read as number %d", i, o, err, c.reads)
		}
	}
	if inner.reads != 2 {
		t.Errorf("two organizations were read %d times, want twice", inner.reads)
	}
}

func TestAFailureToReadIsNotRemembered(t *testing.T) {
	inner := &counted{err: errors.New("the disk is away")}
	cached := newCached(t, inner)
	id := uuid.New()
	for range 2 {
		if o, err := cached.Organization(t.Context(), id); !errors.Is(err, inner.err) || o != (organization.Organization{}) {
			t.Errorf("got %+v, %v, want the failure of the store", o, err)
		}
	}
	if inner.err = nil; inner.reads != 2 {
		t.Errorf("two questions read %d times", inner.reads)
	}
	if o, err := cached.Organization(t.Context(), id); err != nil || o.ID != id {
		t.Errorf("after the failure: %+v, %v", o, err)
	}
}
