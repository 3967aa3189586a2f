package revocation_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/revocation"
)

// jobs is a revocation.Store of which a runner sees one job.
type jobs struct {
	revocation.Store // panics where a runner asks for more than it should
	mu               sync.Mutex
	job              revocation.Job
	steps            []int
	takes            func(step int) time.Duration
	fail             error
	seized           int
}

func (s *jobs) OldestRevocation(context.Context) (revocation.Job, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.job, !s.job.Completed(), nil
}

func (s *jobs) SeizeRevocation(_ context.Context, j revocation.Job, holder string) (revocation.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.Term != s.job.Term {
		return j, revocation.ErrLost
	}
	s.seized++
	s.job.Term, s.job.Holder = j.Term+1, holder
	return s.job, nil
}

func (s *jobs) AdvanceRevocation(_ context.Context, j revocation.Job, limit int, now time.Time) (revocation.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fail; err != nil {
		s.fail = nil
		return j, err
	}
	if j.Term != s.job.Term || j.Holder != s.job.Holder {
		return j, revocation.ErrLost
	}
	s.steps = append(s.steps, limit)
	if s.takes != nil {
		time.Sleep(s.takes(limit))
	}
	s.job.Written = min(s.job.Written+int64(limit), s.job.Changed)
	if s.job.Written == s.job.Changed {
		s.job.CompletedAt = now
	}
	return s.job, nil
}

// now gives how it stands while a runner may be at it.
func (s *jobs) now() (job revocation.Job, seized int) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.job, s.seized
}

func runner(s *jobs) *revocation.Runner {
	return revocation.NewRunner(revocation.RunnerConfig{Store: s, Logger: slog.New(slog.DiscardHandler), Now: time.Now})
}

func TestARunnerWritesItsOwnJobAtOnce(t *testing.T) {
	s := &jobs{job: revocation.Job{ID: uuid.New(), Changed: 2500, Term: 1}}
	r := runner(s)
	s.job.Holder = r.Name()
	if err := r.Work(t.Context()); err != nil || !s.job.Completed() || len(s.steps) != 3 || s.seized != 0 {
		t.Errorf("%v after the steps %v, seized %d times: %v", s.job, s.steps, s.seized, err)
	}
}

// TestARunnerTakesSmallTurnsWhereTheyAreSlow lets others have theirs.
func TestARunnerTakesSmallTurnsWhereTheyAreSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &jobs{job: revocation.Job{ID: uuid.New(), Changed: 4000, Term: 1}}
		s.takes = func(step int) time.Duration {
			if s.job.Written < 2500 {
				return time.Duration(step) * time.Millisecond
			}
			return time.Millisecond
		}
		r := runner(s)
		s.job.Holder = r.Name()
		if err := r.Work(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(s.steps) < 6 || s.steps[0] != 1000 || s.steps[1] != 500 || s.steps[2] != 250 || s.steps[3] != 250 || s.steps[len(s.steps)-1] != 1000 {
			t.Errorf("the steps are %v", s.steps)
		}
	})
}

func TestAJobThatStandsStillIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &jobs{job: revocation.Job{ID: uuid.New(), Changed: 10, Term: 4, Holder: "a node that died"}}
		r := runner(s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)
		for range 8 { // it moves, if slowly
			time.Sleep(time.Second)
			s.mu.Lock()
			s.job.Written++
			s.mu.Unlock()
		}
		if _, seized := s.now(); seized != 0 {
			t.Fatal("a job that moves was taken over")
		}
		time.Sleep(10 * time.Second)
		if job, seized := s.now(); seized != 1 || !job.Completed() {
			t.Errorf("seized %d times: %+v", seized, job)
		}
	})
}

func TestAFailureIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &jobs{job: revocation.Job{ID: uuid.New(), Changed: 10, Term: 1}, fail: errors.New("the database is away")}
		r := runner(s)
		s.job.Holder = r.Name()
		if err := r.Work(t.Context()); err == nil {
			t.Error("the failure is not told")
		}
		s.fail = revocation.ErrLost
		if err := r.Work(t.Context()); err != nil {
			t.Errorf("that another node writes is told as a failure: %v", err)
		}
		go r.Run(t.Context())
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !s.job.Completed() {
			t.Errorf("%+v", s.job)
		}
	})
}

func TestAWokenRunnerDoesNotWaitForItsPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &jobs{job: revocation.Job{ID: uuid.New(), Term: 1, CompletedAt: time.Now()}}
		r := runner(s)
		go r.Run(t.Context())
		synctest.Wait()
		s.job = revocation.Job{ID: uuid.New(), Changed: 10, Term: 1, Holder: r.Name()}
		r.Wake()
		r.Wake() // never blocks
		synctest.Wait()
		if !s.job.Completed() {
			t.Errorf("%+v", s.job)
		}
	})
}
