package stream_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/stream"
)

var errDown = errors.New("it is down")

func TestARunnerDeliversWhatIsThereAndWhatComes(t *testing.T) {
	r, sink := newRecord(7), &taker{}
	s := start(t, r, stream.RunnerConfig{Sink: sink, Batch: 3})
	eventually(t, "what was there", func() bool { return r.at("test") == 7 })
	r.grow(5)
	eventually(t, "what came", func() bool { return r.at("test") == 12 })
	s.stop()
	if got := sink.lines(); !slices.Equal(got, lines(r.entries)) {
		t.Errorf("delivered\n%v, want\n%v", got, lines(r.entries))
	}
	if sink.closed != 1 {
		t.Errorf("the sink was closed %d times", sink.closed)
	}
}

func TestARestartGoesOnWhereItStood(t *testing.T) {
	r, sink := newRecord(40), &taker{}
	for r.at("test") < 40 {
		before := r.at("test")
		s := start(t, r, stream.RunnerConfig{Sink: sink, Batch: 7})
		eventually(t, "a batch", func() bool { return r.at("test") > before })
		s.stop()
	}
	wantDelivered(t, r, sink.lines())
}

// What fails is tried again, the same, and nothing is passed; it is logged once, and
// once when it works.
func TestAFailingSinkIsToldOnceAndLosesNothing(t *testing.T) {
	r, log, p := newRecord(10), &logged{}, &pauses{}
	var batches [][]string
	sink := &taker{next: func(call int, batch []export.Entry) error {
		batches = append(batches, lines(batch))
		if call >= 2 && call < 9 {
			r.grow(1) // more comes meanwhile; the batch stays the same
			return errDown
		}
		return nil
	}}
	now := time.Unix(1_700_000_000, 0)
	s := start(t, r, stream.RunnerConfig{Sink: sink, Batch: 4, Logger: slog.New(slog.NewTextHandler(log, nil)), Wait: p.wait, Now: func() time.Time { return now }})
	eventually(t, "everything", func() bool { return r.at("test") == 17 })
	s.stop()
	wantDelivered(t, r, sink.lines())
	for i := 2; i < 9; i++ {
		if !slices.Equal(batches[i], batches[1]) {
			t.Errorf("try %d is of another batch", i)
		}
	}
	said := log.all()
	if len(said) != 2 || !strings.Contains(said[0], "fails") || !strings.Contains(said[0], "it is down") || !strings.Contains(said[1], "works again") {
		t.Errorf("it was logged as %q, want once failing and once working", said)
	}
	// The pauses double from a second, less up to half of each.
	var after []time.Duration
	for _, d := range p.all() {
		if len(after) < 7 {
			after = append(after, d)
		}
	}
	for i, d := range after {
		if most := time.Second << i; d > most || d < most/2 {
			t.Errorf("pause %d is %s, want from %s to %s", i, d, most/2, most)
		}
	}
}

func TestTheStatusTellsLagAndFailure(t *testing.T) {
	r := newRecord(9)
	var down atomic.Bool
	sink := &taker{next: func(call int, _ []export.Entry) error {
		if call > 1 && down.Load() {
			return errDown
		}
		return nil
	}}
	down.Store(true)
	now := time.Unix(1_700_000_000, 0)
	s := start(t, r, stream.RunnerConfig{Sink: sink, Batch: 4, Now: func() time.Time { return now }})
	eventually(t, "the failure", func() bool { return s.Status().Err != nil })
	got := s.Status()
	if got.Name != "test" || !got.Leading || got.Position != 4 || got.Newest != 9 || got.Behind() != 5 || !got.FailingSince.Equal(now) || !errors.Is(got.Err, errDown) {
		t.Errorf("the status is %+v", got)
	}
	down.Store(false)
	eventually(t, "the end of it", func() bool { return s.Status().Position == 9 && s.Status().Err == nil })
	if got := s.Status(); got.Behind() != 0 || !got.FailingSince.IsZero() {
		t.Errorf("the status is %+v", got)
	}
}

func TestThePauseHasAnUpperBound(t *testing.T) {
	r, p := newRecord(1), &pauses{}
	sink := &taker{next: func(int, []export.Entry) error { return errDown }}
	s := start(t, r, stream.RunnerConfig{Sink: sink, Wait: p.wait, MostPause: 10 * time.Second})
	eventually(t, "many failures", func() bool { return len(p.all()) > 40 })
	s.stop()
	for _, d := range p.all()[10:] {
		if d > 10*time.Second || d < 5*time.Second {
			t.Errorf("a late pause is %s, want from 5s to 10s", d)
		}
	}
}

func TestAReceiverMayAskForALongerPause(t *testing.T) {
	r, p := newRecord(1), &pauses{}
	sink := &taker{next: func(int, []export.Entry) error {
		return &stream.Refused{Status: 429, RetryAfter: 17 * time.Minute}
	}}
	s := start(t, r, stream.RunnerConfig{Sink: sink, Wait: p.wait})
	eventually(t, "a failure", func() bool { return len(p.all()) > 0 })
	s.stop()
	if d := p.all()[0]; d != 17*time.Minute {
		t.Errorf("the pause is %s, want what was asked for", d)
	}
}

// Only the leader delivers, and one that becomes it goes on from where the other
// was.
func TestOnlyTheLeaderDelivers(t *testing.T) {
	r, first, second := newRecord(20), &taker{}, &taker{}
	var leader atomic.Int32
	leader.Store(1)
	one := start(t, r, stream.RunnerConfig{Sink: first, Batch: 3, Leader: func() bool { return leader.Load() == 1 }})
	two := start(t, r, stream.RunnerConfig{Sink: second, Batch: 3, Leader: func() bool { return leader.Load() == 2 }})
	eventually(t, "the first", func() bool { return r.at("test") == 20 })
	if len(second.lines()) != 0 || two.Status().Leading || !one.Status().Leading {
		t.Errorf("who does not lead delivered %d events: %+v", len(second.lines()), two.Status())
	}
	leader.Store(0)
	eventually(t, "the end of the first", func() bool { return !one.Status().Leading })
	r.grow(5)
	leader.Store(2)
	eventually(t, "the second", func() bool { return r.at("test") == 25 })
	if got := second.lines(); !slices.Equal(got, lines(r.entries[20:])) {
		t.Errorf("the second delivered %v", got)
	}
}

func TestTwoAtOnceAreHarmless(t *testing.T) {
	r, sink := newRecord(300), &taker{}
	var all []started
	for range 2 {
		all = append(all, start(t, r, stream.RunnerConfig{Sink: sink, Batch: 3}))
	}
	eventually(t, "everything", func() bool { return r.at("test") == 300 })
	for _, s := range all {
		s.stop()
	}
	seen := map[string]bool{}
	for _, line := range sink.lines() {
		seen[line] = true
	}
	for i, line := range lines(r.entries) {
		if !seen[line] {
			t.Errorf("event %d is lost", i+1)
		}
	}
}

// A position that cannot be noted is noted later; the batch is not sent again for it.
func TestWhatWasDeliveredIsNotSentAgainWhileTheDatabaseIsAway(t *testing.T) {
	r := newRecord(3)
	sink := &taker{next: func(int, []export.Entry) error { r.breaks(errDown); return nil }}
	s := start(t, r, stream.RunnerConfig{Sink: sink})
	eventually(t, "the failure", func() bool { return s.Status().Err != nil })
	r.breaks(nil)
	eventually(t, "the position", func() bool { return r.at("test") == 3 })
	s.stop()
	if got := sink.lines(); !slices.Equal(got, lines(r.entries)) {
		t.Errorf("delivered %d events, want 3 once", len(got))
	}
}

// A commit whose answer is lost is found out by the position.
func TestALostAnswerOfTheDatabaseSkipsNothing(t *testing.T) {
	r, sink := newRecord(9), &taker{}
	r.forgetful = errDown
	s := start(t, r, stream.RunnerConfig{Sink: sink, Batch: 2})
	eventually(t, "everything", func() bool { return r.at("test") == 9 })
	s.stop()
	wantDelivered(t, r, sink.lines())
}

func TestABatchIsBoundedByItsBytes(t *testing.T) {
	r := newRecord(10)
	var sizes []int
	sink := &taker{next: func(_ int, batch []export.Entry) error { sizes = append(sizes, len(batch)); return nil }}
	s := start(t, r, stream.RunnerConfig{Sink: sink, Bytes: 2*len(r.entries[9].Body) + 20})
	eventually(t, "everything", func() bool { return r.at("test") == 10 })
	s.stop()
	if slices.Max(sizes) != 2 {
		t.Errorf("batches have %v events, want 2 at most", sizes)
	}
	r, sizes = newRecord(3), nil
	s = start(t, r, stream.RunnerConfig{Sink: sink, Bytes: 1}) // an event that is too large alone
	eventually(t, "everything", func() bool { return r.at("test") == 3 })
	s.stop()
	if !slices.Equal(sizes, []int{1, 1, 1}) {
		t.Errorf("batches have %v events, want one each", sizes)
	}
}

// dropped is a record of which some bodies are gone.
type dropped struct{ *record }

func (d dropped) Events(ctx context.Context, after int64, limit int) ([]export.Entry, error) {
	all, err := d.record.Events(ctx, after, 1000)
	all = slices.DeleteFunc(all, func(e export.Entry) bool { return e.Sequence <= 5 || e.Sequence == 8 })
	return all[:min(limit, len(all))], err
}

func TestWhatWasDroppedIsNotWaitedFor(t *testing.T) {
	r, sink := newRecord(10), &taker{}
	s := start(t, r, stream.RunnerConfig{Sink: sink, Source: dropped{r}, Batch: 2})
	eventually(t, "the end", func() bool { return r.at("test") == 10 })
	s.stop()
	want := slices.Concat(r.entries[5:7], r.entries[8:])
	if got := sink.lines(); !slices.Equal(got, lines(want)) {
		t.Errorf("delivered %v", got)
	}
}

// thinned is a record that is read part by part, as a store does; half of it is gone.
type thinned struct{ *record }

func (t thinned) Events(ctx context.Context, after int64, limit int) ([]export.Entry, error) {
	part, err := t.record.Events(ctx, after, limit)
	return slices.DeleteFunc(part, func(e export.Entry) bool { return e.Sequence%2 == 1 }), err
}

func TestAStreamDoesNotPauseForWhatWasDropped(t *testing.T) {
	r := newRecord(40)
	var early atomic.Int64
	pause := func(ctx context.Context, _ time.Duration) {
		if r.at("test") < 40 {
			early.Add(1)
		}
		(&pauses{}).wait(ctx, 0)
	}
	s := start(t, r, stream.RunnerConfig{Sink: &taker{}, Source: thinned{r}, Batch: 4, Wait: pause})
	eventually(t, "the end", func() bool { return r.at("test") == 40 })
	s.stop()
	if n := early.Load(); n > 0 {
		t.Errorf("it paused %d times while there was more", n)
	}
}

// shuffled is a source with a fault.
type shuffled struct{ *record }

func (s shuffled) Events(ctx context.Context, after int64, limit int) ([]export.Entry, error) {
	all, err := s.record.Events(ctx, after, limit)
	slices.Reverse(all)
	return all, err
}

func TestAnOrderThatIsWrongIsNotDelivered(t *testing.T) {
	r, sink := newRecord(3), &taker{}
	s := start(t, r, stream.RunnerConfig{Sink: sink, Source: shuffled{r}})
	eventually(t, "the failure", func() bool { return s.Status().Err != nil })
	s.stop()
	if got := sink.lines(); len(got) != 0 {
		t.Errorf("delivered %v", got)
	}
}

// One sink that is down holds up no other.
func TestAFailingSinkHoldsUpNobodyElse(t *testing.T) {
	r, good := newRecord(5), &taker{}
	stuck := make(chan struct{})
	var once sync.Once
	t.Cleanup(func() { once.Do(func() { close(stuck) }) })
	bad := &taker{next: func(int, []export.Entry) error { <-stuck; return errDown }}
	start(t, r, stream.RunnerConfig{Name: "bad", Sink: bad})
	start(t, r, stream.RunnerConfig{Name: "good", Sink: good})
	eventually(t, "the other", func() bool { return r.at("good") == 5 })
	once.Do(func() { close(stuck) })
	if r.at("bad") != 0 {
		t.Error("the stuck one has moved")
	}
}

// A log that was cut is not waited for in silence until it has grown again.
func TestARecordThatWasCutIsAFailure(t *testing.T) {
	r, sink := newRecord(5), &taker{}
	s := start(t, r, stream.RunnerConfig{Sink: sink})
	eventually(t, "everything", func() bool { return r.at("test") == 5 })
	r.mu.Lock()
	r.entries = r.entries[:3]
	r.mu.Unlock()
	eventually(t, "the failure", func() bool { return s.Status().Err != nil })
	if text := s.Status().Err.Error(); !strings.Contains(text, "ends at 3, and 5 was delivered") || s.Status().Behind() != 0 {
		t.Errorf("the failure is %s", text)
	}
}
