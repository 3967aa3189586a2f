package witness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"git.sentryagent.ai/sentryagent-idp/internal/outbound"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
)

// WatchConfig is what watching logs needs.
type WatchConfig struct {
	// Logs are the verifier keys of the logs.
	Logs []note.Verifier
	// URLs are those of servers; their logs are read below /audit.
	URLs   []string
	Client *outbound.Client
	Store  *Store
	Logger *slog.Logger
}

// Watcher fetches the checkpoints of logs that need not know of it, and compares each
// with all that this witness has seen of the log.
type Watcher struct {
	WatchConfig
	logs map[string]note.Verifier
}

// NewWatcher makes a watcher. It gives an error where two logs have one origin, or a
// URL is none that the client may fetch.
func NewWatcher(cfg WatchConfig) (*Watcher, error) {
	logs, err := byOrigin(cfg.Logs)
	if err != nil {
		return nil, err
	}
	w := &Watcher{WatchConfig: cfg, logs: logs}
	w.URLs = nil
	for _, text := range cfg.URLs {
		prefix, err := parsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		u, err := url.Parse(prefix)
		if err == nil {
			err = cfg.Client.Check(u)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", prefix, err)
		}
		w.URLs = append(w.URLs, prefix)
	}
	return w, nil
}

// Run looks at once and then after every interval, until ctx is done.
func (w *Watcher) Run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		_ = w.Look(ctx) // it logged
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Look looks at every URL once, logs what it saw, and gives what was wrong: an error
// that is ErrForked or ErrCut where a log contradicts what it had shown before, and
// others where it could not be read. What a log showed before stays remembered then.
func (w *Watcher) Look(ctx context.Context) error {
	var all []error
	for _, address := range w.URLs {
		c, err := w.look(ctx, address)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.log(ctx, address, c, err)
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", address, err))
		}
	}
	return errors.Join(all...)
}

func (w *Watcher) log(ctx context.Context, address string, c transparency.Checkpoint, err error) {
	attributes := []slog.Attr{slog.String("url", address), slog.String("log", c.Origin), slog.Int64("size", c.Size)}
	if contradiction := (*Contradiction)(nil); errors.As(err, &contradiction) {
		attributes = append(attributes, slog.String("error", err.Error()), slog.String("known", contradiction.Known), slog.String("shown", contradiction.Shown))
		w.Logger.LogAttrs(ctx, slog.LevelError, "the log contradicts what it had shown", attributes...)
		return
	}
	if err != nil {
		w.Logger.LogAttrs(ctx, slog.LevelWarn, "the log could not be looked at", append(attributes, slog.String("error", err.Error()))...)
		return
	}
	w.Logger.LogAttrs(ctx, slog.LevelInfo, "the log grew out of all that was seen of it", attributes...)
}

// look fetches a checkpoint and compares it.
func (w *Watcher) look(ctx context.Context, address string) (transparency.Checkpoint, error) {
	// What is known is read first: what comes to be known meanwhile may be newer than
	// what is fetched, and rightly so.
	known := w.Store.snapshot()
	signed, err := w.get(ctx, address+"/audit/checkpoint")
	if err != nil {
		return transparency.Checkpoint{}, err
	}
	origin, _, _ := strings.Cut(string(signed), "\n")
	key := w.logs[origin]
	if key == nil {
		return transparency.Checkpoint{}, errors.New("its checkpoint is of a log whose key was not given")
	}
	c, err := transparency.Open(signed, key)
	if err == nil && c.Size > maxSize {
		err = errors.New("the size of its checkpoint is out of bounds")
	}
	if err != nil {
		return transparency.Checkpoint{}, err
	}
	own, seen := known.Watched[address][origin]
	if seen && c.Size < own.Size {
		return c, &Contradiction{Kind: ErrCut, Log: origin, Known: own.Note, Shown: string(signed)}
	}
	for _, older := range seenOf(known, origin) {
		if err := w.compare(ctx, address, older, c, string(signed)); err != nil {
			return c, err
		}
	}
	return c, w.Store.watched(address, c, string(signed))
}

// seenOf gives the different checkpoints that are known of a log.
func seenOf(known state, origin string) []Seen {
	distinct := map[string]bool{}
	var all []Seen
	add := func(s Seen, seen bool) {
		if id := strconv.FormatInt(s.Size, 10) + s.Root.String(); seen && !distinct[id] {
			distinct[id] = true
			all = append(all, s)
		}
	}
	s, seen := known.Cosigned[origin]
	add(s, seen)
	for _, logs := range known.Watched {
		s, seen := logs[origin]
		add(s, seen)
	}
	return all
}

// compare proves that a log grew out of what is known of it. What is larger was seen
// elsewhere, such as when it was cosigned and not published yet; its turn comes.
func (w *Watcher) compare(ctx context.Context, address string, older Seen, c transparency.Checkpoint, signed string) error {
	forked := &Contradiction{Kind: ErrForked, Log: c.Origin, Known: older.Note, Shown: signed}
	switch {
	case older.Size == c.Size && older.Root != c.Root:
		return forked
	case older.Size >= c.Size:
		return nil
	}
	var proof tlog.TreeProof
	if older.Size > 0 {
		var err error
		if proof, err = w.prove(ctx, address, older.Size, c.Size); err != nil {
			return err
		}
	}
	if err := grows(older, c, proof); err != nil {
		return forked
	}
	return nil
}

// prove fetches a consistency proof.
func (w *Watcher) prove(ctx context.Context, address string, from, to int64) (tlog.TreeProof, error) {
	text, err := w.get(ctx, fmt.Sprintf("%s/audit/consistency?from=%d&to=%d", address, from, to))
	if err != nil {
		return nil, err
	}
	var answer struct {
		From   int64          `json:"from"`
		To     int64          `json:"to"`
		Hashes tlog.TreeProof `json:"hashes"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("its consistency proof cannot be read: %w", err)
	}
	if answer.From != from || answer.To != to {
		return nil, fmt.Errorf("its consistency proof is from %d to %d, asked was from %d to %d", answer.From, answer.To, from, to)
	}
	return answer.Hashes, nil
}

func (w *Watcher) get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "agentidp")
	resp, err := w.Client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.Status != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d: %q", req.URL.Path, resp.Status, firstLine(resp.Body))
	}
	return resp.Body, nil
}
