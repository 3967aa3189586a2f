package app_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/textproto"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
)

// The rounds: each pair asks both servers one after the other, the first of them by turns.
const (
	costPairs       = 12
	costRound       = 3 * time.Second
	costConnections = 64
)

// costServer is a real server on the embedded engine, in a folder of its own.
type costServer struct {
	b       *testing.B
	app     *app.App
	address string
	request []byte // that asks for a token
}

// startCost starts a server whose tree grows, or not.
func startCost(b *testing.B, sequencing bool) *costServer {
	b.Helper()
	cfg, err := config.Load(config.Sources{Environ: []string{"PORT=0", "DATA_DIR=" + b.TempDir(), "RATE_LIMIT=off", "SECRET_HASHER=hmac", "LOG_LEVEL=warn"}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &costServer{b: b}
	if s.app, err = app.Open(ctx, cfg, slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: cfg.LogLevel})), time.Now); err != nil {
		b.Fatal(err)
	}
	if !sequencing {
		s.app.NeverSequence()
	}
	admin, _, err := s.app.BootstrapEmpty(ctx)
	if err != nil {
		b.Fatal(err)
	}
	l, err := s.app.Listen(ctx)
	if err != nil {
		b.Fatal(err)
	}
	s.address = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- s.app.Run(ctx, l, "test") }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
		_ = s.app.Close()
	})
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"agents:read"}, "client_id": {admin.AgentID.String()}, "client_secret": {admin.Secret.Value().Reveal()}}.Encode()
	s.request = fmt.Appendf(nil, "POST /oauth2/token HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", s.address, len(form), form)
	return s
}

// ask asks on all connections for so long, and gives how many tokens there were. The
// client does as little as it can, as it shares the processors.
func (s *costServer) ask(d time.Duration) (count float64, took time.Duration) {
	s.b.Helper()
	var tokens atomic.Int64
	var clients sync.WaitGroup
	began := time.Now()
	end := began.Add(d)
	for range costConnections {
		clients.Go(func() {
			conn, err := net.Dial("tcp", s.address)
			if err != nil {
				s.b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			in := textproto.NewReader(bufio.NewReader(conn))
			for time.Now().Before(end) {
				if err := s.one(conn, in); err != nil {
					s.b.Error(err)
					return
				}
				tokens.Add(1)
			}
		})
	}
	clients.Wait()
	return float64(tokens.Load()), time.Since(began)
}

// one gets one token.
func (s *costServer) one(conn net.Conn, in *textproto.Reader) error {
	if _, err := conn.Write(s.request); err != nil {
		return err
	}
	status, err := in.ReadLine()
	if err != nil || !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return fmt.Errorf("asking for a token: %q %w", status, err)
	}
	header, err := in.ReadMIMEHeader()
	if err != nil {
		return err
	}
	length, err := strconv.Atoi(header.Get("Content-Length"))
	if err != nil {
		return err
	}
	_, err = in.R.Discard(length)
	return err
}

// tree is how many events the tree has.
func (s *costServer) tree() int64 {
	s.b.Helper()
	size, err := s.app.TreeSize(s.b.Context())
	if err != nil {
		s.b.Fatal(err)
	}
	return size
}

// processor is the time that this process has used of the processors.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measured is what one side of the comparison came to.
type measured struct{ perSecond, perProcessorSecond []float64 }

// round measures one, and gives what came of it.
func (m *measured) round(s *costServer) (perSecond, perProcessorSecond float64) {
	before := processor(s.b)
	tokens, took := s.ask(costRound)
	used := processor(s.b) - before
	perSecond, perProcessorSecond = tokens/took.Seconds(), tokens/used.Seconds()
	m.perSecond, m.perProcessorSecond = append(m.perSecond, perSecond), append(m.perProcessorSecond, perProcessorSecond)
	return perSecond, perProcessorSecond
}

// BenchmarkSequencing compares tokens a second with the tree growing against without, in
// one run, by turns: two servers in this process on databases that grow alike, each asked
// by 64 connections (R4). It reports the medians of the pairs' ratios: of tokens by the
// clock, and of tokens by the processor time that server and client used together, which
// other work on the machine disturbs less.
func BenchmarkSequencing(b *testing.B) {
	on, off := startCost(b, true), startCost(b, false)
	for b.Loop() {
		var with, without measured
		var byClock, byProcessor []float64
		on.ask(costRound)
		off.ask(costRound) // both are warm
		for pair := range costPairs {
			var rate, other, cost, otherCost float64
			if pair%2 == 0 {
				rate, cost = with.round(on)
				other, otherCost = without.round(off)
			} else {
				other, otherCost = without.round(off)
				rate, cost = with.round(on)
			}
			byClock, byProcessor = append(byClock, rate/other), append(byProcessor, cost/otherCost)
			fmt.Fprintf(os.Stderr, "pair %2d: %5.0f tokens/s with sequencing, %5.0f without: %.3f; per second of processor %5.0f and %5.0f: %.3f; %d leaves\n",
				pair+1, rate, other, rate/other, cost, otherCost, cost/otherCost, on.tree())
		}
		b.ReportMetric(median(byClock), "ratio")
		b.ReportMetric(median(byProcessor), "ratio-by-processor")
		b.ReportMetric(median(with.perSecond), "tokens/s")
		b.ReportMetric(median(without.perSecond), "tokens/s-without")
	}
	if on.tree() == 0 || off.tree() != 0 {
		b.Errorf("the trees have %d and %d leaves", on.tree(), off.tree())
	}
}

// median is that of numbers that are not NaN.
func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	if len(sorted) == 0 {
		return math.NaN()
	}
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
