package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/export"
)

// Config is what the streams of a node need.
type Config struct {
	Settings  Settings
	Source    Source
	Positions Positions
	// Leader says whether this node is the one to deliver now.
	Leader func() bool
	// Client sends to the webhook. It must not follow redirects.
	Client Client
	// Hostname is what syslog messages call this machine, Version what the product is
	// at.
	Hostname, Version string
	Now               func() time.Time
	Logger            *slog.Logger
}

// Streams are all streams of a node, each with a Runner of its own, so that one that
// fails holds up no other.
type Streams struct{ runners []*Runner }

// Open makes the streams that the settings name. It connects to nothing, and fails
// where a setting is wrong or a file that it names cannot be read.
func Open(cfg Config) (*Streams, error) {
	if err := errors.Join(cfg.Settings.Check()...); err != nil {
		return nil, err
	}
	name := cfg.Settings.Format
	if name == "" {
		name = export.NDJSON
	}
	format, err := export.New(name, cfg.Version)
	if err != nil {
		return nil, fmt.Errorf("AUDIT_STREAM_FORMAT: %w", err)
	}
	s := &Streams{}
	add := func(name string, sink Sink) {
		s.runners = append(s.runners, NewRunner(RunnerConfig{
			Name: name, Sink: sink, Source: cfg.Source, Positions: cfg.Positions, Leader: cfg.Leader, Now: cfg.Now, Logger: cfg.Logger,
		}))
	}
	if cfg.Settings.File != "" {
		add("file", NewFile(cfg.Settings.File, format))
	}
	if cfg.Settings.Syslog != "" {
		sink, err := NewSyslog(cfg.Settings, cfg.Hostname, format)
		if err != nil {
			return nil, err
		}
		add("syslog", sink)
	}
	if cfg.Settings.Webhook != "" {
		sink, err := NewWebhook(cfg.Settings, cfg.Client, format, cfg.Version, cfg.Now)
		if err != nil {
			return nil, err
		}
		add("webhook", sink)
	}
	return s, nil
}

// Run delivers to all sinks until ctx is done.
func (s *Streams) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, r := range s.runners {
		all.Go(func() { r.Run(ctx) })
	}
	all.Wait()
}

// Status tells how each stream stands.
func (s *Streams) Status() []Status {
	var all []Status
	for _, r := range s.runners {
		all = append(all, r.Status())
	}
	return all
}

// Probe fails while this node is to deliver and a stream fails, for /health.
func (s *Streams) Probe(context.Context) error {
	var failing []error
	for _, one := range s.Status() {
		if one.Err != nil {
			failing = append(failing, fmt.Errorf("stream %s is %d events behind: %w", one.Name, one.Behind(), one.Err))
		}
	}
	return errors.Join(failing...)
}
