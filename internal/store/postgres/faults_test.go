package postgres_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/agent"
	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/pgtest"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
)

func wantUnavailable(t *testing.T, doing string, err error) {
	t.Helper()
	if !fault.Is(err, fault.CodeUnavailable) {
		t.Errorf("%s gives %v, want UNAVAILABLE", doing, err)
	}
}

// update changes the agent once; within runs in its transaction.
func update(ctx context.Context, s *store.Store, a agent.Agent, within func()) error {
	_, err := s.UpdateAgent(ctx, a.OrganizationID, a.ID, func(a *agent.Agent) (audit.Event, error) {
		within()
		a.Owner += "x"
		return event(time.Now(), audit.AgentUpdated, a.ID), nil
	})
	return err
}

// recovers wants the store to work again by itself; connections that broke may each
// cost one call.
func recovers(t *testing.T, s *store.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		a, c, e := draft()
		err := s.CreateAgent(ctx, a, c, e)
		if err == nil {
			return
		}
		wantUnavailable(t, "a call before the recovery", err)
		if ctx.Err() != nil {
			t.Fatal("the store does not recover")
		}
	}
}

// own starts a server for one test alone.
func own(t *testing.T, settings ...string) *pgtest.Server {
	t.Helper()
	s, err := pgtest.Start(settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// TestTheServerIsKilled while requests run, and started again.
func TestTheServerIsKilled(t *testing.T) {
	t.Parallel()
	server := own(t)
	url := migrated(t, server)
	s := open(t, url).Store
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		sure []agent.Agent // told to be there
	)
	for range 3 {
		var stop, failed atomic.Bool
		for range 8 {
			all.Go(func() {
				for !stop.Load() {
					a, c, e := draft()
					err := s.CreateAgent(t.Context(), a, c, e)
					if err == nil {
						_, err = s.AppendRecords(t.Context(), []audit.Record{use(a, c)})
						mu.Lock()
						sure = append(sure, a)
						mu.Unlock()
					}
					if err != nil {
						failed.Store(true)
						wantUnavailable(t, "a call around the crash", err)
					}
				}
			})
		}
		mu.Lock()
		before := len(sure)
		mu.Unlock()
		for n := before; n < before+20; {
			mu.Lock()
			n = len(sure)
			mu.Unlock()
		}
		server.Kill()
		for !failed.Load() {
			_ = s.Ping(t.Context())
		}
		server.Restart(t)
		recovers(t, s)
		stop.Store(true)
		all.Wait()
	}
	for _, a := range sure {
		if _, err := s.Agent(t.Context(), a.OrganizationID, a.ID); err != nil {
			t.Errorf("an agent that was told to be there: %v", err)
		}
	}
	db := raw(t, url)
	for what, query := range map[string]string{
		"agents without a credential":      "SELECT count(*) FROM agents a WHERE NOT EXISTS (SELECT 1 FROM credentials c WHERE c.agent_id = a.id)",
		"agents without their event":       "SELECT count(*) FROM agents a WHERE NOT EXISTS (SELECT 1 FROM audit_events e WHERE e.agent_id = a.id AND e.action = 'agent.created')",
		"events about no agent":            "SELECT count(*) FROM audit_events e WHERE NOT EXISTS (SELECT 1 FROM agents a WHERE a.id = e.agent_id)",
		"places in the log without events": "SELECT (SELECT sequence FROM audit_head) - (SELECT count(*) FROM audit_events)",
	} {
		if n := one[int](t, db, query); n != 0 {
			t.Errorf("%d %s", n, what)
		}
	}
}

func TestAConnectionIsResetWithinATransaction(t *testing.T) {
	t.Parallel()
	p, url := between(t, migrated(t, server))
	s := open(t, url).Store
	a, _ := register(t, s)
	wantUnavailable(t, "a transaction whose connection was reset", update(t.Context(), s, a, p.cut))
	recovers(t, s)
	if got, err := s.Agent(t.Context(), a.OrganizationID, a.ID); err != nil || got.Revision != 1 {
		t.Errorf("the agent is at revision %d, %v: something half was written", got.Revision, err)
	}
}

// TestAnAmbiguousCommitIsNotRepeated: what may have been written must not be
// written again.
func TestAnAmbiguousCommitIsNotRepeated(t *testing.T) {
	t.Parallel()
	url := migrated(t, server)
	p, through := between(t, url)
	s := open(t, through).Store
	for what, c := range map[string]struct {
		spoil   spoil
		written int64
	}{"a commit that did not arrive": {loseCommit, 0}, "a commit whose answer was lost": {loseAnswer, 1}} {
		a, _ := register(t, s)
		calls := 0
		p.set(c.spoil)
		wantUnavailable(t, what, update(t.Context(), s, a, func() { calls++ }))
		if calls != 1 {
			t.Errorf("%s: the change was made %d times", what, calls)
		}
		recovers(t, s)
		got, err := s.Agent(t.Context(), a.OrganizationID, a.ID)
		if err != nil || got.Revision != 1+c.written {
			t.Errorf("%s: the agent is at revision %d, %v", what, got.Revision, err)
		}
	}
	if n := one[int](t, raw(t, url), "SELECT (SELECT sequence FROM audit_head) - (SELECT count(*) FROM audit_events)"); n != 0 {
		t.Errorf("%d places in the log have no event", n)
	}
}

// TestNothingHangs with a network that carries nothing any more, and a caller who
// sets no deadline.
func TestNothingHangs(t *testing.T) {
	t.Parallel()
	p, url := between(t, migrated(t, server))
	s := open(t, url).Store
	a, _ := register(t, s)
	start, dead, read := time.Now(), make(chan struct{}), make(chan error, 1)
	go func() {
		<-dead
		_, err := s.Agent(t.Context(), a.OrganizationID, a.ID)
		read <- err
	}()
	wantUnavailable(t, "a transaction on a dead network", update(t.Context(), s, a, func() {
		p.set(stall)
		close(dead)
	}))
	wantUnavailable(t, "a read on a dead network", <-read)
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("the calls took %v", took)
	}
	p.set(pass)
	recovers(t, s)
}

func TestALockHeldElsewhere(t *testing.T) {
	t.Parallel()
	url := migrated(t, server)
	db := raw(t, url)
	for setting, statement := range map[string]string{"lock_timeout": "LOCK TABLE agents", "statement_timeout": "SELECT FROM change_counter FOR UPDATE"} {
		s := open(t, url+"&"+setting+"=300").Store
		a, _ := register(t, s)
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		wantUnavailable(t, "a change behind a lock", update(t.Context(), s, a, func() {}))
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("%s: it took %v", setting, took)
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		if err := update(t.Context(), s, a, func() {}); err != nil {
			t.Errorf("when the lock is gone: %v", err)
		}
	}
}

func TestADeadlockIsDoneAgain(t *testing.T) {
	t.Parallel()
	url := migrated(t, server)
	s, db := open(t, url).Store, raw(t, url)
	a, _ := register(t, s)
	other, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"SET LOCAL deadlock_timeout = '1min'", "SELECT FROM audit_head FOR UPDATE"} { // the store notices first
		if _, err := other.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	calls, done := 0, make(chan error, 1)
	err = update(t.Context(), s, a, func() {
		if calls++; calls == 1 {
			go func() {
				_, err := other.ExecContext(t.Context(), "SELECT FROM agents FOR UPDATE")
				done <- errors.Join(err, other.Rollback())
			}()
		}
	})
	if err := errors.Join(err, <-done); err != nil || calls < 2 {
		t.Errorf("the change was made %d times: %v", calls, err)
	}
}

// TestWhatTheDatabaseRefuses raises what a database in trouble raises.
func TestWhatTheDatabaseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what, code      string
		failures, tries int64
		unavailable     bool
	}{
		{"one serialization failure", "40001", 1, 2, false},
		{"serialization failures without end", "40001", 100, 4, true},
		{"deadlocks without end", "40P01", 100, 4, true},
		{"a full disk", "53100", 1, 1, true},
		{"too little memory", "53200", 1, 1, true},
		{"an end by the administrator", "57P01", 1, 1, true},
	} {
		url := migrated(t, server)
		s, db := open(t, url).Store, raw(t, url)
		a, _ := register(t, s)
		exec(t, db, "CREATE SEQUENCE tries") // counts also what is rolled back
		exec(t, db, `CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('tries') <= `+strconv.FormatInt(c.failures, 10)+` THEN RAISE 'trouble' USING ERRCODE = '`+c.code+`'; END IF;
			RETURN new; END $$`)
		exec(t, db, "CREATE TRIGGER trouble BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION trouble()")
		err := update(t.Context(), s, a, func() {})
		if c.unavailable {
			wantUnavailable(t, c.what, err)
		} else if err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if n := one[int64](t, db, "SELECT last_value FROM tries"); n != c.tries {
			t.Errorf("%s: the store tried %d times, want %d", c.what, n, c.tries)
		}
		exec(t, db, "DROP TRIGGER trouble ON audit_events")
		if err := update(t.Context(), s, a, func() {}); err != nil {
			t.Errorf("%s: afterwards: %v", c.what, err)
		}
	}
}

func TestThePoolIsExhausted(t *testing.T) {
	t.Parallel()
	s := open(t, migrated(t, server)+"&pool_max_conns=1").Store
	a, _ := register(t, s)
	inside, release, held := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		held <- update(t.Context(), s, a, func() {
			close(inside)
			<-release
		})
	}()
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := s.Counter(ctx)
	wantUnavailable(t, "a read without a connection", err)
	_, err = s.AppendRecords(ctx, []audit.Record{{Event: event(time.Now(), audit.AgentUpdated, a.ID)}})
	wantUnavailable(t, "a transaction without a connection", err)
	close(release)
	if err := <-held; err != nil {
		t.Error(err)
	}
	if _, err := s.Counter(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.Agents(t.Context(), a.OrganizationID, agent.Filter{}, page.Query{Limit: 10}); err != nil {
		t.Errorf("a list with one connection: %v", err)
	}
}

func TestAReadOnlyPrimary(t *testing.T) {
	t.Parallel()
	server := own(t)
	url := migrated(t, server)
	s, db := open(t, url).Store, raw(t, url+"&default_transaction_read_only=off")
	a, _ := register(t, s)
	set := func(value string) {
		exec(t, db, "ALTER SYSTEM SET default_transaction_read_only = "+value)
		exec(t, db, "SELECT pg_reload_conf()")
	}
	set("on")
	var err error
	for start := time.Now(); err == nil && time.Since(start) < 10*time.Second; { // the setting needs a moment to be seen
		err = update(t.Context(), s, a, func() {})
	}
	wantUnavailable(t, "a change on a server that only reads", err)
	set("off")
	recovers(t, s)
}
