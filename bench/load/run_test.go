package load_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/bench/load"
)

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func ask(address string, rate float64) load.Plan {
	return load.Plan{
		Address: address, Connections: 4, Rate: rate, For: 200 * time.Millisecond,
		Mix: []load.Kind{{Name: "thing", Share: 1, Status: http.StatusOK, Raw: [][]byte{[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")}}},
	}
}

func TestAnswersOfAnyLengthAreRead(t *testing.T) {
	var n atomic.Int64
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, []int{0, 100, 100_000}[n.Add(1)%3])) // the longest goes out in chunks
	})
	r, err := load.Run(t.Context(), ask(address, 0))
	if err != nil || r.Wrong != 0 || r.Answered != n.Load() || r.PerSecond == 0 {
		t.Errorf("of %d answers %+v, %v", n.Load(), r, err)
	}
}

func TestAWrongAnswerIsCountedAndShown(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) })
	r, err := load.Run(t.Context(), ask(address, 0))
	if err != nil || r.Wrong != r.Answered || r.Answered == 0 || !strings.Contains(r.FirstWrong, "418 no") || r.PerSecond != 0 {
		t.Errorf("result %+v, %v", r, err)
	}
}

// TestWhoWasKeptWaitingIsCounted stalls the server once: in the open loop all that were
// due meanwhile waited, and not only those that were under way.
func TestWhoWasKeptWaitingIsCounted(t *testing.T) {
	var stalled atomic.Bool
	release := time.Now().Add(150 * time.Millisecond)
	address := serve(t, func(http.ResponseWriter, *http.Request) {
		stalled.Store(true)
		<-time.After(time.Until(release))
	})
	r, err := load.Run(t.Context(), ask(address, 1000))
	if err != nil || !stalled.Load() {
		t.Fatal(err)
	}
	if r.Latency.P50 < 10_000 {
		t.Errorf("half of the requests waited less than %d µs, though the server stood still for most of the time", r.Latency.P50)
	}
}
