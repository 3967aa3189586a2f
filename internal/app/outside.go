package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/outbound"
	"git.sentryagent.ai/sentryagent-idp/internal/stream"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/witness"
)

// outbound gives a client for what the operator's settings name; zero bounds are the
// usual ones.
func (a *App) outbound(timeout time.Duration, maxBody int64) *outbound.Client {
	return outbound.New(outbound.Config{Loopback: true, Allow: a.cfg.OutboundAllow, Timeout: timeout, MaxBody: maxBody})
}

// witnesses gives those that cosign checkpoints, nil where there are none.
func (a *App) witnesses() (transparency.Witnesses, error) {
	if len(a.cfg.Witnesses) == 0 {
		return nil, nil
	}
	g, err := witness.NewGatherer(witness.GatherConfig{
		Witnesses: a.cfg.Witnesses, Quorum: a.cfg.WitnessQuorum, Client: a.outbound(0, 0), Logger: a.logger, Now: a.now,
	})
	if err != nil {
		return nil, fmt.Errorf("AUDIT_WITNESSES: %w", err)
	}
	return g, nil
}

// streams gives those that the record is sent on by.
func (a *App) streams(log *audit.Log, tree *transparency.Log, leader func() bool, version string) (*stream.Streams, error) {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "" // syslog has a word for it
	}
	return stream.Open(stream.Config{
		Settings: a.cfg.Streams, Source: source{log, tree}, Positions: a.store, Leader: leader, Client: fetcher{a.outbound(stream.WebhookTimeout, maxAnswer)},
		Hostname: hostname, Version: version, Now: a.now, Logger: a.logger,
	})
}

// source gives streams the events that a published checkpoint covers.
type source struct {
	log  *audit.Log
	tree *transparency.Log
}

// Newest gives the sequence of the last of them.
func (s source) Newest(ctx context.Context) (int64, error) {
	c, _, err := s.tree.Newest(ctx)
	return c.Size, err
}

// Events gives the next of them, past any number that were dropped.
func (s source) Events(ctx context.Context, after int64, limit int) ([]export.Entry, error) {
	newest, err := s.Newest(ctx)
	if err != nil {
		return nil, err
	}
	var entries []export.Entry
	for r := (audit.Part{After: after}); r.After < newest && len(entries) == 0; r.After = r.UpTo {
		r.UpTo = min(r.After+int64(limit), newest)
		events, err := s.log.Stored(ctx, r)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			entries = append(entries, export.Entry{Sequence: e.Sequence, Body: e.Body})
		}
	}
	return entries, nil
}

// maxAnswer is how much of an answer to a post is read; what it says is not looked at.
const maxAnswer = 64 << 10

// fetcher posts by the guarded client.
type fetcher struct{ client *outbound.Client }

// Do makes a request; the answer's body is in memory, or left out where it is long.
func (f fetcher) Do(r *http.Request) (*http.Response, error) {
	got, err := f.client.Do(r)
	if err != nil && !errors.Is(err, outbound.ErrTooLarge) {
		return nil, err
	}
	return &http.Response{StatusCode: got.Status, Header: got.Header, Body: io.NopCloser(bytes.NewReader(got.Body)), Request: r}, nil
}
