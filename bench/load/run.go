package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are kept from a microsecond to a minute, to three digits.
const (
	shortest = 1
	longest  = int64(time.Minute / time.Microsecond)
	digits   = 3
)

// Run carries the plan out.
func Run(ctx context.Context, p Plan) (Result, error) {
	if err := p.check(); err != nil {
		return Result{}, err
	}
	conns := make([]*conn, p.Connections)
	for i := range conns {
		c, err := dial(ctx, p.Address)
		if err != nil {
			return Result{}, err
		}
		defer func() { _ = c.Close() }()
		conns[i] = c
	}
	r := &run{plan: p, began: time.Now()}
	for _, k := range p.Mix {
		r.shares += k.Share
	}
	if p.Rate > 0 {
		r.due = arrivals(p)
	}
	r.kinds = make([]tally, len(p.Mix))
	for k := range r.kinds {
		r.kinds[k].latency = hdrhistogram.New(shortest, longest, digits)
	}
	workers := make([]*worker, len(conns))
	var all sync.WaitGroup
	for i, c := range conns {
		workers[i] = &worker{run: r, conn: c, random: rand.New(rand.NewPCG(uint64(i), 7))} //nolint:gosec // no secret
		all.Go(workers[i].work)
	}
	all.Wait()
	return r.result(workers)
}

// run is a plan that is being carried out.
type run struct {
	plan   Plan
	began  time.Time
	shares float64
	due    []time.Duration
	next   atomic.Int64
	kinds  []tally
}

// arrivals are the moments at which requests are due, as of many independent callers.
func arrivals(p Plan) []time.Duration {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // no secret
	var due []time.Duration
	for at := 0.0; ; {
		at += random.ExpFloat64() / p.Rate
		d := time.Duration(at * float64(time.Second))
		if d > p.WarmUp+p.For {
			return due
		}
		due = append(due, d)
	}
}

// tally is what all workers found of a kind: a histogram takes hundreds of kilobytes.
type tally struct {
	mu      sync.Mutex
	latency *hdrhistogram.Histogram
	right   int64
}

func (t *tally) note(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.right++
	_ = t.latency.RecordValue(min(max(int64(took/time.Microsecond), shortest), longest)) // within its bounds
}

type worker struct {
	*run
	conn     *conn
	random   *rand.Rand
	answered int64
	wrong    int64
	shed     int64
	first    string
	err      error
	last     time.Time
}

func (w *worker) work() {
	from, to := w.began.Add(w.plan.WarmUp), w.began.Add(w.plan.WarmUp+w.plan.For)
	for {
		due := time.Now()
		if w.due != nil {
			n := w.next.Add(1) - 1
			if n >= int64(len(w.due)) {
				return
			}
			due = w.began.Add(w.due[n])
			time.Sleep(time.Until(due))
		} else if due.After(to) {
			return
		}
		if w.plan.MayShed {
			due = time.Now()
		}
		k := w.pick()
		kind := &w.plan.Mix[k]
		status, body, err := w.conn.ask(kind.Raw[w.random.IntN(len(kind.Raw))])
		if err != nil {
			w.err = fmt.Errorf("asking for %s: %w", kind.Name, err)
			return
		}
		now := time.Now()
		w.answered++
		if status != kind.Status && w.plan.MayShed && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) {
			w.shed++
			continue
		}
		if status != kind.Status {
			if w.wrong++; w.wrong == 1 {
				w.first = fmt.Sprintf("%s: %d %.300s", kind.Name, status, body)
			}
			continue
		}
		if due.Before(from) || w.due == nil && now.After(to) {
			continue
		}
		w.last = now
		w.kinds[k].note(now.Sub(due))
	}
}

// pick draws a kind by its share.
func (w *worker) pick() int {
	if len(w.plan.Mix) == 1 {
		return 0
	}
	at := w.random.Float64() * w.shares
	for k := range w.plan.Mix {
		if at -= w.plan.Mix[k].Share; at < 0 {
			return k
		}
	}
	return len(w.plan.Mix) - 1
}

func (r *run) result(workers []*worker) (Result, error) {
	result := Result{Kinds: map[string]KindResult{}}
	// An open loop that fell behind took longer than was planned.
	took := r.plan.For
	for _, w := range workers {
		took = max(took, w.last.Sub(r.began.Add(r.plan.WarmUp)))
	}
	total := hdrhistogram.New(shortest, longest, digits)
	var failed error
	for k, kind := range r.plan.Mix {
		one := r.kinds[k].latency
		total.Merge(one)
		per := float64(r.kinds[k].right) / took.Seconds()
		result.PerSecond += per
		result.Kinds[kind.Name] = KindResult{PerSecond: per, Latency: latency(one)}
	}
	for _, w := range workers {
		result.Answered += w.answered
		result.Wrong += w.wrong
		result.Shed += w.shed
		if result.FirstWrong == "" {
			result.FirstWrong = w.first
		}
		failed = errors.Join(failed, w.err)
	}
	result.Latency = latency(total)
	return result, failed
}

func latency(h *hdrhistogram.Histogram) Latency {
	return Latency{
		P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
}
