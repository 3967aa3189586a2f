package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/outbound"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

const (
	defaultTimeout = 5 * time.Second
	defaultLinger  = 500 * time.Millisecond
)

// GatherConfig is what a log needs to ask its witnesses.
type GatherConfig struct {
	Witnesses []Witness
	// Quorum is how many must sign; from 1 to the number of witnesses.
	Quorum int
	Client *outbound.Client
	// Timeout bounds the time that all witnesses together have; 5 s where it is 0.
	Timeout time.Duration
	// Linger is how much of it is left to the others once enough have signed; 500 ms
	// where it is 0.
	Linger time.Duration
	Logger *slog.Logger
	Now    func() time.Time
}

// Gatherer asks witnesses to cosign a log's checkpoints.
type Gatherer struct {
	GatherConfig
	peers []*peer
}

// NewGatherer makes a gatherer. It gives an error where the quorum cannot be reached
// or the client may not go to a witness's URL.
func NewGatherer(cfg GatherConfig) (*Gatherer, error) {
	if cfg.Quorum < 1 || cfg.Quorum > len(cfg.Witnesses) {
		return nil, fmt.Errorf("the quorum is %d of %d witnesses", cfg.Quorum, len(cfg.Witnesses))
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Linger <= 0 {
		cfg.Linger = defaultLinger
	}
	g := &Gatherer{GatherConfig: cfg}
	for _, w := range cfg.Witnesses {
		p, err := newPeer(w, cfg.Client)
		if err != nil {
			return nil, err
		}
		g.peers = append(g.peers, p)
	}
	return g, nil
}

// Refusal is why a witness did not sign.
type Refusal struct {
	Witness string
	Err     error
}

// QuorumError says that too few witnesses signed, who did not, and why. What they said
// can be asked with errors.Is: ErrForked and ErrCut say that the log itself is wrong.
type QuorumError struct {
	Quorum, Signed int
	Refusals       []Refusal
}

// Error names every witness that did not sign, and why.
func (e *QuorumError) Error() string {
	whys := make([]string, len(e.Refusals))
	for i, r := range e.Refusals {
		whys[i] = r.Witness + ": " + r.Err.Error()
	}
	return fmt.Sprintf("%d of %d witnesses signed, %d must: %s", e.Signed, e.Signed+len(e.Refusals), e.Quorum, strings.Join(whys, "; "))
}

// Unwrap gives what each of them said.
func (e *QuorumError) Unwrap() []error {
	errs := make([]error, len(e.Refusals))
	for i, r := range e.Refusals {
		errs[i] = r.Err
	}
	return errs
}

// reply is what came of asking the witness of that index.
type reply struct {
	index int
	line  string
	err   error
}

// Gather asks all witnesses at once to cosign a signed checkpoint, and gives it with
// their signature lines. Where fewer than the quorum signed it gives a *QuorumError;
// refusals beside a quorum are logged. It takes no longer than the time-out, where prove
// heeds its context. What a checkpoint covers must be durable before: a witness
// remembers it, published or not.
func (g *Gatherer) Gather(ctx context.Context, signed []byte, prove transparency.Prove) ([]byte, error) {
	q, err := newQuestion(signed, prove)
	if err != nil {
		return nil, err
	}
	replies := g.ask(ctx, q)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("asking the witnesses: %w", err)
	}
	var lines strings.Builder
	failure := &QuorumError{Quorum: g.Quorum}
	for i, r := range replies {
		if r.err != nil {
			failure.Refusals = append(failure.Refusals, Refusal{Witness: g.peers[i].Key.Name(), Err: r.err})
			continue
		}
		failure.Signed++
		lines.WriteString(r.line)
	}
	if failure.Signed < g.Quorum {
		g.accuse(ctx, q, failure.Refusals)
		return nil, failure
	}
	g.log(ctx, q, failure.Refusals)
	return append(append([]byte{}, signed...), lines.String()...), nil
}

// ask gives the replies in the order of the witnesses.
func (g *Gatherer) ask(ctx context.Context, q question) []reply {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	incoming := make(chan reply, len(g.peers))
	for i, p := range g.peers {
		go func() {
			line, err := p.sign(ctx, q, g.Now)
			incoming <- reply{index: i, line: line, err: err}
		}()
	}
	replies := make([]reply, len(g.peers))
	for signatures, waiting := 0, len(g.peers); waiting > 0; waiting-- {
		r := <-incoming
		replies[r.index] = r
		if r.err != nil {
			continue
		}
		if signatures++; signatures == g.Quorum {
			late := time.AfterFunc(g.Linger, cancel)
			defer late.Stop()
		}
	}
	return replies
}

// accuse says at once, whatever else may keep the checkpoint back, that a witness knows a
// log which contradicts ours. One that is left alone for now was heard before.
func (g *Gatherer) accuse(ctx context.Context, q question, refusals []Refusal) {
	harmless := func(r Refusal) bool { return !errors.Is(r.Err, ErrForked) && !errors.Is(r.Err, ErrCut) }
	g.log(ctx, q, slices.DeleteFunc(slices.Clone(refusals), harmless))
}

// log notes who did not sign though enough did. Who is left alone for now was noted
// when it failed.
func (g *Gatherer) log(ctx context.Context, q question, refusals []Refusal) {
	for _, r := range refusals {
		level := slog.LevelWarn
		switch {
		case errors.Is(r.Err, ErrResting):
			continue
		case errors.Is(r.Err, errLate):
			level = slog.LevelDebug
		case errors.Is(r.Err, ErrForked), errors.Is(r.Err, ErrCut):
			level = slog.LevelError
		}
		g.Logger.LogAttrs(ctx, level, "a witness did not sign the checkpoint", slog.String("witness", r.Witness),
			slog.String("error", r.Err.Error()), slog.Int64("size", q.checkpoint.Size))
	}
}

// question is what all witnesses are asked.
type question struct {
	checkpoint transparency.Checkpoint
	text       string
	signed     []byte
	prove      transparency.Prove
}

func newQuestion(signed []byte, prove transparency.Prove) (question, error) {
	end := strings.LastIndex(string(signed), "\n\n")
	if end < 0 || len(signed) > maxBody/2 || signed[len(signed)-1] != '\n' {
		return question{}, errors.New("asking the witnesses: this is not a signed checkpoint")
	}
	text := string(signed[:end+1])
	c, err := transparency.ParseCheckpoint(text)
	if err != nil {
		return question{}, fmt.Errorf("asking the witnesses: %w", err)
	}
	return question{checkpoint: c, text: text, signed: signed, prove: prove}, nil
}
