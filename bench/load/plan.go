package load

import (
	"errors"
	"time"
)

// Plan says what is asked.
type Plan struct {
	Address     string
	Connections int
	// Rate is how many requests a second are due, at random moments; zero asks as
	// often as the server answers.
	Rate   float64
	WarmUp time.Duration
	For    time.Duration
	Mix    []Kind
	// MayShed says that 429 and 503 are no wrong answers, but none either. Latency is then
	// counted from when a request was sent, not from when it was due: what waits here for a
	// connection never reached the server.
	MayShed bool
}

// Kind is requests of one kind.
type Kind struct {
	Name string
	// Share is how often it is asked, against the other kinds.
	Share float64
	// Raw are the requests, as they go over the wire.
	Raw [][]byte
	// Status is what they must be answered with.
	Status int
}

// Latency is what a histogram says, in microseconds.
type Latency struct {
	P50, P90, P99, P999, Max int64
}

// Result is what came of a plan.
type Result struct {
	// PerSecond is how many were answered as they must be, a second.
	PerSecond float64
	Latency   Latency
	Kinds     map[string]KindResult
	// Answered counts all that were answered, those of the warm-up among them.
	Answered int64
	Wrong    int64
	// Shed counts those that were answered with 429 or 503, where that may be.
	Shed int64
	// FirstWrong is the first answer that was not as it must be.
	FirstWrong string
}

// KindResult is what came of one kind.
type KindResult struct {
	PerSecond float64
	Latency   Latency
}

func (p Plan) check() error {
	if p.Connections < 1 || p.For <= 0 || len(p.Mix) == 0 {
		return errors.New("a plan needs connections, a time and something to ask")
	}
	for _, k := range p.Mix {
		if len(k.Raw) == 0 || k.Share <= 0 {
			return errors.New("the kind " + k.Name + " has no requests, or no share")
		}
	}
	return nil
}
