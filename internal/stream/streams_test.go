package stream_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/stream"
)

// TestAllStreamsAtOnce runs the three of them, one of which fails.
func TestAllStreamsAtOnce(t *testing.T) {
	a := newAuthority(t)
	l := secure(t, a, nil)
	server, post := serve(t, l, nil), newReceiver(t, nil)
	path := filepath.Join(t.TempDir(), "missing", "audit.ndjson")
	r := newRecord(4)
	log := &logged{}
	streams, err := stream.Open(stream.Config{
		Settings: stream.Settings{
			File: path, Syslog: "tls://" + l.Addr().String(), SyslogCAFile: write(t, a.pem), Webhook: post.URL, WebhookSecret: secret.New(secretText), Format: export.OCSF,
		},
		Source: r, Positions: r, Leader: always, Client: post.Client(), Hostname: "", Version: "1.2.3", Now: time.Now, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := streams.Probe(t.Context()); err != nil {
		t.Errorf("before they run: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); streams.Run(ctx) }()
	eventually(t, "those that work", func() bool { return r.at("syslog") == 4 && r.at("webhook") == 4 })
	eventually(t, "the one that fails", func() bool { return streams.Probe(t.Context()) != nil })
	if err := streams.Probe(t.Context()).Error(); !strings.Contains(err, "stream file is 4 events behind") || strings.Contains(err, "webhook") {
		t.Errorf("the probe says %s", err)
	}
	var names []string
	for _, s := range streams.Status() {
		names = append(names, s.Name)
	}
	if !slices.Equal(names, []string{"file", "syslog", "webhook"}) {
		t.Errorf("the streams are %v", names)
	}
	cancel()
	<-done
	for _, line := range append(server.msg(), post.lines()...) {
		var e struct {
			ClassUID int `json:"class_uid"`
			Metadata struct{ Product struct{ Version string } }
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.ClassUID != 3002 || e.Metadata.Product.Version != "1.2.3" {
			t.Errorf("%s is not the event in OCSF: %v", line, err)
		}
	}
	if len(server.all()) != 4 || len(post.lines()) != 4 {
		t.Errorf("%d and %d events came, want 4", len(server.all()), len(post.lines()))
	}
	if said := log.all(); len(said) != 1 || strings.Contains(said[0], secretText) {
		t.Errorf("logged %q", said)
	}
}

func TestNoSettingIsNoStream(t *testing.T) {
	streams, err := stream.Open(stream.Config{})
	if err != nil || len(streams.Status()) != 0 || (stream.Settings{}).Any() {
		t.Errorf("%v, %v", streams.Status(), err)
	}
	streams.Run(t.Context())
	for _, s := range []stream.Settings{{File: "f"}, {Syslog: "tls://h:1"}, {Webhook: "https://h"}} {
		if !s.Any() {
			t.Errorf("%+v is no stream", s)
		}
	}
}

// TestWrongSettingsOpenNothing goes with the tables of internal/config.
func TestWrongSettingsOpenNothing(t *testing.T) {
	for _, s := range []stream.Settings{
		{Format: "csv"},
		{Syslog: "logs"},
		{Webhook: "https://h"},
		{Webhook: "http://h", WebhookSecret: secret.New(secretText)},
		{Webhook: "https://h", WebhookSecret: secret.New("short")},
		{SyslogCertFile: "c"},
		{Syslog: "tls://h:1", SyslogCAFile: "/missing"},
		{Webhook: "https://h", WebhookSecret: secret.New("whsec_?")},
		{Webhook: "https://u:p@h", WebhookSecret: secret.New(secretText)},
	} {
		if _, err := stream.Open(stream.Config{Settings: s}); err == nil {
			t.Errorf("%+v was opened", s)
		}
	}
	if _, err := stream.NewWebhook(stream.Settings{Webhook: "ftp://h"}, nil, export.Format{}, "", time.Now); err == nil {
		t.Error("a webhook by ftp was made")
	}
	if _, err := stream.NewWebhook(stream.Settings{Webhook: "https://h"}, nil, export.Format{}, "", time.Now); err == nil {
		t.Error("a webhook without a secret was made")
	}
	if _, err := stream.NewSyslog(stream.Settings{Syslog: "x"}, "", export.Format{}); err == nil {
		t.Error("a syslog server without an address was made")
	}
}
