// Command profiled is the product's server with the profiles of net/http/pprof on a
// second listener, for looking into what is measured. It is no part of the product,
// which serves no profiles.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" //nolint:gosec // on the default mux, served on the second listener
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
	"git.sentryagent.ai/sentryagent-idp/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "profiled:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

// run serves as agentidp serve does.
func run(ctx context.Context) error {
	runtime.SetMutexProfileFraction(20)
	runtime.SetBlockProfileRate(int(100 * time.Microsecond))
	cfg, err := config.Load(config.Sources{Environ: os.Environ()})
	if err != nil {
		return err
	}
	a, err := app.Open(ctx, cfg, slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: cfg.LogLevel})), time.Now)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }()
	l, err := a.Listen(ctx)
	if err != nil {
		return err
	}
	profiles, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // for the life of the process
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(profiles, nil) }() //nolint:gosec // of this machine alone, while it is looked at
	fmt.Fprintf(os.Stderr, "agentidp profiled listens on %s\nprofiles on %s\n", l.Addr(), profiles.Addr())
	return a.Run(ctx, l, "profiled")
}
