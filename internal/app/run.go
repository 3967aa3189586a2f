package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
)

// How often the server looks after what time or another node changes.
const (
	keyPoll     = 5 * time.Second
	maintenance = time.Minute
	retention   = time.Hour
	// rotation is how soon the end of a credential is told of, or moved.
	rotation = 10 * time.Second
	// listenAgain is how soon a node listens again after Redis was lost.
	listenAgain = 2 * time.Second
)

// ballast is memory that is never touched, and so never resident. It counts as live
// when the collector decides when to run: without it, the few megabytes of a small fleet
// are collected after every few megabytes of requests, and an introspection costs a fifth
// more CPU. On a large heap it makes no difference.
const ballast = 8 << 20

// Listen opens the listener that HOST and PORT name.
func (a *App) Listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(a.cfg.Host, strconv.Itoa(a.cfg.Port)))
	if err != nil {
		return nil, fmt.Errorf("listening (is PORT taken?): %w", err)
	}
	return l, nil
}

// Issuer gives JWT_ISSUER, or the URL by which this machine reaches the listener.
func (a *App) Issuer(l net.Listener) string {
	if a.cfg.Issuer != "" {
		return a.cfg.Issuer
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	scheme := "http"
	if a.cfg.TLSCertFile != "" {
		scheme = "https"
	}
	return scheme + "://localhost:" + port
}

// Run serves on the listener until ctx is done, making the first signing key where
// there is none. It then answers the requests under way, writes what is still to be
// recorded, and returns.
func (a *App) Run(ctx context.Context, l net.Listener, version string) error {
	if err := a.Ring.Ensure(ctx, audit.System("agentidp")); err != nil {
		closed := l.Close()
		if ctx.Err() != nil {
			return closed // it was stopped before it began
		}
		return errors.Join(err, closed)
	}
	s, err := a.serverFor(ctx, a.Issuer(l), version)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	l = netutil.LimitListener(l, a.cfg.MaxConnections)
	held := make([]byte, ballast)
	defer runtime.KeepAlive(held)
	var committer, sequencer, others sync.WaitGroup
	committer.Go(s.log.Run)
	sequencing, stopSequencing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSequencing()
	sequencer.Go(func() { s.sequencer.Run(sequencing) })
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	others.Go(func() { s.folder.Run(background) })
	others.Go(func() { s.streams.Run(background) })
	others.Go(func() { s.runner.Run(background) })
	others.Go(func() { a.every(background, keyPoll, "reading the signing keys", a.Ring.Load) })
	others.Go(func() {
		a.every(background, maintenance, "maintaining the database", a.Maintain)
	})
	others.Go(func() {
		a.every(background, retention, "dropping old events", func(ctx context.Context) error {
			// Another node does it; or nobody does, as what tells of a drop would not be
			// seen, and what is gone would look stolen.
			if !s.sequencer.Settled() {
				return nil
			}
			return a.Retain(ctx)
		})
	})
	others.Go(func() {
		a.every(background, rotation, "looking after the ends of credentials", func(ctx context.Context) error {
			if !s.sequencer.Leading() {
				return nil // another node does it
			}
			return a.Rotate(ctx)
		})
	})
	others.Go(func() { a.every(background, rotation, "noting who uses which credential", a.NoteUses) })
	others.Go(func() {
		a.every(background, maintenance, "noting the figures of the caches", func(ctx context.Context) error { s.caches.note(ctx); return nil })
	})
	if a.redis != nil {
		others.Go(func() { a.listen(background, s.directory) })
	}
	err = s.http.Serve(ctx, l, a.cfg.TLSCertFile, a.cfg.TLSKeyFile)
	// Nobody asks any more: what was counted is recorded, then the record closes.
	stop()
	others.Wait()
	s.caches.note(context.WithoutCancel(ctx))
	if failed := a.NoteUses(context.WithoutCancel(ctx)); failed != nil {
		a.logger.WarnContext(ctx, "noting who uses which credential failed", "error", failed)
	}
	s.log.Close()
	committer.Wait()
	// Last, so that the tree covers all of it.
	stopSequencing()
	sequencer.Wait()
	return err
}

// every does something again and again until ctx is done. A failure is logged;
// the next turn may succeed.
func (a *App) every(ctx context.Context, pause time.Duration, doing string, do func(context.Context) error) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := do(ctx); err != nil && ctx.Err() == nil {
				a.logger.WarnContext(ctx, doing+" failed", "error", err)
			}
		}
	}
}

// listen drops from the directory what another node says it changed, until ctx is
// done.
func (a *App) listen(ctx context.Context, directory *token.Directory) {
	forget := func(keyID string) {
		directory.Forget(keyID)
		a.logger.DebugContext(ctx, "forgot what was changed", "keyId", keyID)
	}
	for ctx.Err() == nil {
		if err := a.redis.Listen(ctx, forget); err != nil {
			a.logger.WarnContext(ctx, "listening for changes failed", "error", err)
		}
		select {
		case <-time.After(listenAgain):
		case <-ctx.Done():
		}
	}
}
