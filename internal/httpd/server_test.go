package httpd_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/httpd"
)

// patience is how long a test waits for what should happen at once; only a test
// that fails waits that long.
const patience = 30 * time.Second

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// newServer makes a server that says nothing.
func newServer(handler http.Handler, drain time.Duration) *httpd.Server {
	return httpd.NewServer(httpd.ServerConfig{
		Handler: handler, Health: httpd.NewHealth("1"), Drain: drain, Logger: slog.New(slog.DiscardHandler),
	})
}

// running is a server that serves until stop is called.
type running struct {
	addr string
	stop context.CancelFunc
	done chan error
}

// serve starts a server; cert and key are empty for plain HTTP.
func serve(t *testing.T, s *httpd.Server, l net.Listener, cert, key string) running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l, cert, key) }()
	return running{addr: l.Addr().String(), stop: stop, done: done}
}

// ended waits until Serve has returned.
func (r running) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		t.Fatal("the server does not stop")
		return nil
	}
}

// client is an HTTP client without connections of other tests.
func client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// dial opens a bare connection that gives up rather than hang.
func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// watched is a listener that says what readiness was when it was closed.
type watched struct {
	net.Listener
	ready  func() int
	status atomic.Int64
	closed chan struct{}
}

func (l *watched) Close() error {
	if l.status.CompareAndSwap(0, int64(l.ready())) {
		defer close(l.closed)
	}
	return l.Listener.Close()
}

// A server that is told to stop says so, takes nothing new and finishes what it
// has begun (R38, R39).
func TestStoppingFinishesTheRequestsUnderWay(t *testing.T) {
	health := httpd.NewHealth("1")
	routes := httpd.Router(health.Routes())
	readiness := func() int { return ask(routes, "GET", "/health/ready").Code }
	entered, release := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		if err := r.Context().Err(); err != nil {
			t.Errorf("the request under way was cancelled: %v", err)
		}
		_, _ = io.WriteString(w, "finished")
	})
	l := &watched{Listener: listen(t), ready: readiness, closed: make(chan struct{})}
	s := serve(t, httpd.NewServer(httpd.ServerConfig{Handler: handler, Health: health, Drain: patience, Logger: slog.New(slog.DiscardHandler)}), l, "", "")
	if got := readiness(); got != http.StatusOK {
		t.Errorf("readiness while serving: %d, want 200", got)
	}

	type outcome struct {
		body string
		err  error
	}
	answer := make(chan outcome, 1)
	c := client(t)
	go func() {
		resp, err := c.Get("http://" + s.addr)
		if err != nil {
			answer <- outcome{err: err}
			return
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		answer <- outcome{string(body), err}
	}()
	<-entered
	s.stop()
	select {
	case <-l.closed:
	case <-time.After(patience):
		t.Fatal("the listener stays open")
	}
	if got := l.status.Load(); got != http.StatusServiceUnavailable {
		t.Errorf("readiness was %d when the listener closed, want 503 before", got)
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection while draining: %v, want it refused", err)
		if err == nil {
			_ = conn.Close()
		}
	}
	select {
	case err := <-s.done:
		t.Fatalf("Serve returned %v while a request was under way", err)
	default:
	}
	close(release)
	if got := <-answer; got.err != nil || got.body != "finished" {
		t.Errorf("the request under way got %q, %v", got.body, got.err)
	}
	if err := s.ended(t); err != nil {
		t.Errorf("Serve = %v, want nil after a clean stop", err)
	}
}

// Balancers learn that a server stops by asking it, so it must go on answering
// for as long as they need to ask (R39).
func TestAServerThatStopsSaysSoBeforeItTakesNoMoreConnections(t *testing.T) {
	const delay = time.Second
	health := httpd.NewHealth("1")
	s := serve(t, httpd.NewServer(httpd.ServerConfig{
		Handler: httpd.Router(health.Routes()), Health: health, Delay: delay, Drain: patience, Logger: slog.New(slog.DiscardHandler),
	}), listen(t), "", "")
	c := client(t)
	c.Transport = &http.Transport{DisableKeepAlives: true}
	stopped := time.Now()
	s.stop()
	for status := http.StatusOK; status != http.StatusServiceUnavailable; {
		resp, err := c.Get("http://" + s.addr + "/health/ready")
		if err != nil {
			t.Fatalf("a balancer never saw that the server stops: %v", err)
		}
		_ = resp.Body.Close()
		status = resp.StatusCode
	}
	if err := s.ended(t); err != nil {
		t.Errorf("Serve = %v", err)
	}
	if took := time.Since(stopped); took < delay {
		t.Errorf("the server stopped after %s, want %s first", took, delay)
	}
}

// Nobody can be turned away by a server that nobody reaches.
func TestAServerThatFailsWhileItStopsDoesNotWaitOutTheDelay(t *testing.T) {
	health := httpd.NewHealth("1")
	routes := httpd.Router(health.Routes())
	l := listen(t)
	s := serve(t, httpd.NewServer(httpd.ServerConfig{Handler: routes, Health: health, Delay: time.Hour, Drain: patience, Logger: slog.New(slog.DiscardHandler)}), l, "", "")
	s.stop()
	for ask(routes, "GET", "/health/ready").Code != http.StatusServiceUnavailable {
		runtime.Gosched()
	}
	_ = l.Close()
	if err := s.ended(t); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v, want why it cannot serve", err)
	}
}

func TestARequestThatOutlastsTheDrainTimeIsCutOffAndReported(t *testing.T) {
	entered, told := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done() // only its own connection's end releases it
		close(told)
	})
	s := serve(t, newServer(handler, time.Millisecond), listen(t), "", "")
	conn := dial(t, s.addr)
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered
	s.stop()
	if err := s.ended(t); err == nil || !strings.Contains(err.Error(), "still under way") {
		t.Errorf("Serve = %v, want an error that says requests were cut off", err)
	}
	if n, err := io.Copy(io.Discard, conn); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection that was cut off gave %d bytes, %v", n, err)
	}
	<-told
}

// Headers are bounded before a handler sees them (R38).
func TestHeadersOverTheBoundAreRefused(t *testing.T) {
	var served atomic.Int64
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) })
	s := serve(t, newServer(handler, patience), listen(t), "", "")
	// net/http allows 4 KiB over MaxHeaderBytes, so 15 KiB pass and 21 KiB do not.
	for size, status := range map[int]int{15 << 10: http.StatusOK, 21 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		conn := dial(t, s.addr)
		request := "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Long: " + strings.Repeat("x", size) + "\r\n\r\n"
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%d bytes of headers: %d, want %d", size, resp.StatusCode, status)
		}
	}
	if served.Load() != 1 {
		t.Errorf("the handler saw %d requests, want the short one alone", served.Load())
	}
	s.stop()
	if err := s.ended(t); err != nil {
		t.Errorf("Serve = %v", err)
	}
}

// net/http has an answer of its own to OPTIONS *, past the middleware.
func TestARequestForTheServerItselfPassesTheMiddleware(t *testing.T) {
	var log buffer
	s := serve(t, newServer(httpd.Chain(config(&log), endpoints()), patience), listen(t), "", "")
	for _, method := range []string{"OPTIONS", "GET"} {
		conn := dial(t, s.addr)
		if _, err := io.WriteString(conn, method+" * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), `"code":"NOT_FOUND"`) {
			t.Errorf("%s *: %d %s (%v), want 404 NOT_FOUND", method, resp.StatusCode, body, err)
		}
		if resp.Header.Get("X-Request-Id") == "" || resp.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s * was answered past the middleware: %v", method, resp.Header)
		}
	}
	s.stop()
	if err := s.ended(t); err != nil {
		t.Errorf("Serve = %v", err)
	}
	if n := len(log.lines(t)); n != 2 {
		t.Errorf("two requests left %d lines", n)
	}
}

func TestAListenerThatFailsEndsTheServer(t *testing.T) {
	l := listen(t)
	_ = l.Close()
	s := serve(t, newServer(http.NotFoundHandler(), patience), l, "", "")
	if err := s.ended(t); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v, want why it cannot serve", err)
	}
}
