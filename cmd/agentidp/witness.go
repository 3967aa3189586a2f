package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"git.sentryagent.ai/sentryagent-idp/internal/httpd"
	"git.sentryagent.ai/sentryagent-idp/internal/outbound"
	"git.sentryagent.ai/sentryagent-idp/internal/transparency"
	"git.sentryagent.ai/sentryagent-idp/internal/witness"
)

const (
	// contradictionCode is the exit code of a look at a log that was cut or forked.
	contradictionCode = 2
	// witnessDrain is how long requests under way may take when a witness is stopped.
	witnessDrain = 10 * time.Second
	// shortestWatch bounds how often somebody else's server is asked.
	shortestWatch = time.Second
)

// witnessFlags is what the witness command is told.
type witnessFlags struct {
	listen, state, key, name string
	logs, watch, allow       []string
	every                    time.Duration
	once                     bool
}

func (*command) witness() *cobra.Command {
	var f witnessFlags
	cmd := &cobra.Command{
		Use:   "witness",
		Short: "Watch logs and cosign what only grew",
		Long: `witness remembers the last checkpoint it saw of each log, and cosigns a new one only
where the log proves that it grew out of that (C2SP tlog-witness). Run it on another
machine than the log's, under another owner. It serves POST /add-checkpoint until it is
interrupted, with one JSON line per request on standard output. Its key and its state
are made when it first starts; it must never lose the state and keep the key.

With --watch it also asks servers for their checkpoints, which need not know of it, and
logs an error, with both checkpoints, where a log was cut or forked. With --once it looks
at them once, without serving and without a key, and exits with 0 where all is well, with
2 where a log was cut or forked, and with 1 where a log could not be looked at.

A log's key is what GET /audit/key gives: get it once, over a channel you trust.
More: docs/witnesses.md.`,
		Example: `  agentidp audit witness --name w.example/1 --log "$(cat log.key)"
  agentidp audit witness --once --log "$(cat log.key)" --watch https://idp.example.com`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.once {
				return f.look(cmd.Context(), cmd.OutOrStdout())
			}
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:3080", "address to listen on; TLS is for a proxy before it")
	flags.StringArrayVar(&f.logs, "log", nil, "verifier key of a log (may be repeated)")
	flags.StringVar(&f.state, "state", "witness-state.json", "file of what it remembers")
	flags.StringVar(&f.key, "key", "witness-key", "file of its private key")
	flags.StringVar(&f.name, "name", "", "its name, such as w.example/1; needed when it first starts")
	flags.StringArrayVar(&f.watch, "watch", nil, "URL of a server whose log to watch (may be repeated)")
	flags.DurationVar(&f.every, "every", time.Minute, "how often to look")
	flags.BoolVar(&f.once, "once", false, "look once and exit")
	flags.StringArrayVar(&f.allow, "allow", nil, "network that may be watched though it is private, such as 10.0.0.0/8 (may be repeated)")
	return cmd
}

// keys reads the logs' keys.
func (f *witnessFlags) keys() ([]note.Verifier, error) {
	if len(f.logs) == 0 {
		return nil, errors.New("--log: say whose log, by its verifier key")
	}
	keys := make([]note.Verifier, len(f.logs))
	for i, text := range f.logs {
		key, err := note.NewVerifier(text)
		if err != nil {
			return nil, fmt.Errorf("--log %q: this is not the verifier key of a log: %w", text, err)
		}
		keys[i] = key
	}
	return keys, nil
}

// watcher makes a watcher of the URLs.
func (f *witnessFlags) watcher(keys []note.Verifier, store *witness.Store, logger *slog.Logger) (*witness.Watcher, error) {
	var allow []netip.Prefix
	for _, text := range f.allow {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--allow %q: this is not a network such as 10.0.0.0/8", text)
		}
		allow = append(allow, network)
	}
	if f.every < shortestWatch {
		return nil, fmt.Errorf("--every: must be at least %s", shortestWatch)
	}
	w, err := witness.NewWatcher(witness.WatchConfig{
		Logs: keys, URLs: f.watch, Client: outbound.New(outbound.Config{Allow: allow, Loopback: true}), Store: store, Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("--watch: %w", err)
	}
	return w, nil
}

// look looks at the logs once.
func (f *witnessFlags) look(ctx context.Context, logs io.Writer) (err error) {
	if len(f.watch) == 0 {
		return errors.New("--once: say what to look at, with --watch")
	}
	keys, err := f.keys()
	if err != nil {
		return err
	}
	store, err := witness.OpenOrCreateStore(f.state)
	if err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	w, err := f.watcher(keys, store, slog.New(slog.NewJSONHandler(logs, nil)))
	if err != nil {
		return err
	}
	err = w.Look(ctx)
	if errors.Is(err, witness.ErrForked) || errors.Is(err, witness.ErrCut) {
		return &exitError{code: contradictionCode, err: err}
	}
	return err
}

// run is a witness until ctx is done.
func (f *witnessFlags) run(ctx context.Context, logs, notes io.Writer) (err error) {
	keys, err := f.keys()
	if err != nil {
		return err
	}
	store, cosigner, err := witness.OpenIdentity(f.key, f.state, f.name, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	logger := slog.New(slog.NewJSONHandler(logs, nil))
	handler, err := witness.NewHandler(witness.HandlerConfig{Logs: keys, Store: store, Cosigner: cosigner, Logger: logger, Now: time.Now})
	if err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	watcher, err := f.watcher(keys, store, logger)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if err := announceWitness(notes, l.Addr(), cosigner, keys); err != nil {
		return errors.Join(err, l.Close())
	}
	server := httpd.NewServer(httpd.ServerConfig{Handler: handler, Health: httpd.NewHealth(version()), Drain: witnessDrain, Logger: logger})
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	if len(f.watch) > 0 {
		watching.Go(func() { watcher.Run(ctx, f.every) })
	}
	err = server.Serve(ctx, l, "", "")
	stop()
	watching.Wait()
	return err
}

// announceWitness says where it is, and what its log must be told.
func announceWitness(w io.Writer, address net.Addr, cosigner *transparency.Cosigner, keys []note.Verifier) error {
	out := &printer{w: w}
	out.line("agentidp %s listens on %s", version(), address)
	out.line("witness       %s", cosigner.Name())
	out.line("verifier key  %s", cosigner.VerifierKey())
	for _, key := range keys {
		out.line("log           %s", key.Name())
	}
	return out.err
}
