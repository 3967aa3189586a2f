package httpd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// start serves the handler with bounds short enough for a test, and gives a
// connection to it that fails rather than hang.
func start(t *testing.T, handler http.Handler, shorten func(*http.Server)) net.Conn {
	t.Helper()
	s := NewServer(ServerConfig{Handler: handler, Health: NewHealth("1"), Drain: time.Minute, Logger: slog.New(slog.DiscardHandler)})
	shorten(s.inner)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l, "", "") }()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
	return conn
}

// disconnected fails unless the server ends the connection.
func disconnected(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the server holds the connection of a client that has gone silent")
	}
}

// A slow client must not hold what others need (R38).
func TestAClientThatStopsWithinItsHeadersIsDisconnected(t *testing.T) {
	var served atomic.Int64
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) })
	conn := start(t, handler, func(s *http.Server) { s.ReadHeaderTimeout = 50 * time.Millisecond })
	for _, b := range []byte("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: a") {
		if _, err := conn.Write([]byte{b}); err != nil {
			break // it was disconnected already
		}
	}
	disconnected(t, conn)
	if served.Load() != 0 {
		t.Error("the handler saw half a request")
	}
}

func TestAClientThatStopsWithinItsBodyIsDisconnected(t *testing.T) {
	read := make(chan error, 1)
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		read <- err
	})
	conn := start(t, handler, func(s *http.Server) { s.ReadTimeout = 200 * time.Millisecond })
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading half a body = %v, want that it took too long", err)
	}
	disconnected(t, conn)
}

func TestAClientThatKeepsAnIdleConnectionIsDisconnected(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	conn := start(t, handler, func(s *http.Server) { s.IdleTimeout = 50 * time.Millisecond })
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	disconnected(t, conn)
}

func TestNoBoundOnConnectionsIsLeftOpen(t *testing.T) {
	s := NewServer(ServerConfig{Handler: http.NotFoundHandler(), Health: NewHealth("1"), Drain: time.Minute, Logger: slog.New(slog.DiscardHandler)}).inner
	for name, d := range map[string]time.Duration{
		"ReadHeaderTimeout": s.ReadHeaderTimeout, "ReadTimeout": s.ReadTimeout, "WriteTimeout": s.WriteTimeout, "IdleTimeout": s.IdleTimeout,
	} {
		if d <= 0 || d > 2*time.Minute {
			t.Errorf("%s = %s, want a bound", name, d)
		}
	}
	if s.MaxHeaderBytes != 16<<10 {
		t.Errorf("MaxHeaderBytes = %d, want 16 KiB", s.MaxHeaderBytes)
	}
}
