package postgres_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
)

// TestASlowDisk makes every commit of the record take half a second: those that there
// is no room for are told at once when to come again, the others are served together,
// and nothing is lost or written twice (R39).
func TestASlowDisk(t *testing.T) {
	t.Parallel()
	url := migrated(t, server)
	db := raw(t, url)
	exec(t, db, "CREATE FUNCTION slow_commit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END'")
	exec(t, db, "CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON audit_head DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow_commit()")
	const queue, callers = 64, 200
	log := audit.NewLog(open(t, url), audit.Config{Queue: queue, Batch: queue})
	var committer sync.WaitGroup
	committer.Go(log.Run)
	before := one[int](t, db, "SELECT count(*) FROM audit_events")

	var calling sync.WaitGroup
	var mu sync.Mutex
	written, refused := 0, 0
	for range callers {
		calling.Go(func() {
			err := log.Append(t.Context(), event(time.Now(), audit.TokenDenied, uuid.New()))
			mu.Lock()
			defer mu.Unlock()
			f := fault.As(err)
			switch {
			case err == nil:
				written++
			case f != nil && f.Kind == fault.Unavailable && f.RetryAfter > 0:
				refused++
			default:
				t.Errorf("a caller was told %v", err)
			}
		})
	}
	calling.Wait()
	log.Close()
	committer.Wait()
	if written < queue || refused == 0 {
		t.Errorf("%d were written and %d refused, of %d with room for %d", written, refused, callers, queue)
	}
	if n := one[int](t, db, "SELECT count(*) FROM audit_events") - before; n != written {
		t.Errorf("%d events are in the record, and %d callers were told that theirs is", n, written)
	}
}
