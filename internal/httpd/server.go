package httpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Bounds on connections: a slow client must not hold what others need.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 15 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = 120 * time.Second
	maxHeaderBytes = 16 << 10
)

// Server serves HTTP until it is told to stop.
type Server struct {
	inner        *http.Server
	health       *Health
	delay, drain time.Duration
}

// ServerConfig is what a server needs.
type ServerConfig struct {
	Handler http.Handler
	Health  *Health
	// Delay is how long a server that was told to stop says that it is not ready
	// before it takes no more connections.
	Delay time.Duration
	// Drain bounds how long requests under way may take after that.
	Drain  time.Duration
	Logger *slog.Logger
}

// NewServer makes a server.
func NewServer(cfg ServerConfig) *Server {
	return &Server{health: cfg.Health, delay: cfg.Delay, drain: cfg.Drain, inner: &http.Server{
		Handler: cfg.Handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		// OPTIONS * would be answered past the handler.
		DisableGeneralOptionsHandler: true,
	}}
}

// Serve serves on the listener until ctx is done. It then goes on for the delay,
// not ready, so that balancers turn away, and lets the requests under way end.
// With a certificate it speaks TLS.
func (s *Server) Serve(ctx context.Context, l net.Listener, certFile, keyFile string) error {
	failed := make(chan error, 1)
	go func() {
		if certFile != "" {
			failed <- s.inner.ServeTLS(l, certFile, keyFile)
			return
		}
		failed <- s.inner.Serve(l)
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	s.health.Drain()
	var failure error
	select {
	case err := <-failed:
		failure = fmt.Errorf("serving: %w", err)
	case <-time.After(s.delay):
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
	defer cancel()
	err := s.inner.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(fmt.Errorf("requests were still under way after %s", s.drain), s.inner.Close())
	}
	return errors.Join(failure, err)
}
