package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"git.sentryagent.ai/sentryagent-idp/bench/fleet"
	"git.sentryagent.ai/sentryagent-idp/internal/pgtest"
	"git.sentryagent.ai/sentryagent-idp/internal/porttest"
	"git.sentryagent.ai/sentryagent-idp/internal/redistest"
)

// small is the fleet that most is measured with, and callers how many of a fleet call.
const (
	small   = 1000
	callers = 1000
)

// build compiles the servers, as they are shipped.
func (b *bench) build() error {
	for name, from := range map[string][2]string{"floor": {".", "./floor"}, "agentidp": {"..", "./cmd/agentidp"}, "profiled": {".", "./profiled"}} {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(b.dir, name), from[1]) //nolint:gosec,noctx // our own
		cmd.Dir, cmd.Env = from[0], append(os.Environ(), "CGO_ENABLED=0")
		if err := must(cmd); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) floor(ctx context.Context) (*target, error) {
	members, err := fleet.Some(callers, small)
	if err != nil {
		return nil, err
	}
	clients, err := json.Marshal(members) //nolint:gosec // secrets of a fleet that protects nothing
	if err != nil {
		return nil, err
	}
	cmd := command(b.dir, os.Environ(), filepath.Join(b.dir, "floor"))
	cmd.Stdin = bytes.NewReader(clients)
	t, err := launch(ctx, "floor", cmd, filepath.Join(b.dir, "floor.log"))
	if err != nil {
		return nil, err
	}
	t.members, t.size = members, small
	return t, nil
}

// folder makes one for a server.
func (b *bench) folder(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	return dir, os.MkdirAll(dir, 0o750)
}

// serve starts the product.
func (b *bench) serve(ctx context.Context, name, dir string, size int, more ...string) (*target, error) {
	t, err := launch(ctx, name, command(dir, environment(dir, more...), b.program(name), "serve"), filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	t.size = size
	if t.members, err = fleet.Some(callers, size); err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

// sqlite starts the product on a fleet in its embedded database.
func (b *bench) sqlite(ctx context.Context, name string, size int) (*target, error) {
	dir, err := b.folder(name)
	if err != nil {
		return nil, err
	}
	if err := must(command(dir, environment(dir), filepath.Join(b.dir, "agentidp"), "migrate")); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := fleet.SQLite(ctx, filepath.Join(dir, "agentidp.db"), size); err != nil {
		return nil, fmt.Errorf("making a fleet of %d: %w", size, err)
	}
	b.say("a fleet of %d in SQLite, made in %s", size, time.Since(began).Round(time.Millisecond))
	return b.serve(ctx, name, dir, size)
}

// onPostgres starts the product on a fleet in PostgreSQL, with Redis. Both are as safe
// as their defaults make them: fsync and synchronous_commit are on.
func (b *bench) onPostgres(ctx context.Context, name string, size int) (*target, error) {
	database, err := pgtest.Start("fsync=on", "synchronous_commit=on", "shared_buffers=512MB", "max_wal_size=4GB")
	if err != nil {
		return nil, err
	}
	b.closers = append(b.closers, database.Stop)
	dir, err := b.folder(name)
	if err != nil {
		return nil, err
	}
	redisURL, redisPID, err := b.redis(dir)
	if err != nil {
		return nil, err
	}
	url := database.URL("postgres")
	more := []string{"DATABASE_URL=" + url, "REDIS_URL=" + redisURL}
	if err := must(command(dir, environment(dir, more...), filepath.Join(b.dir, "agentidp"), "migrate")); err != nil {
		return nil, err
	}
	if err := fleet.Postgres(ctx, url, size); err != nil {
		return nil, err
	}
	t, err := b.serve(ctx, name, dir, size, more...)
	if err != nil {
		return nil, err
	}
	first, err := os.ReadFile(filepath.Join(database.Dir, "postmaster.pid"))
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(first, []byte("\n"))
	postmaster, err := strconv.Atoi(string(line))
	if err != nil {
		return nil, err
	}
	t.pids = append(t.pids, postmaster, redisPID)
	return t, nil
}

func (b *bench) redis(dir string) (url string, pid int, err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", redistest.Missing, err)
	}
	port, err := porttest.Free()
	if err != nil {
		return "", 0, err
	}
	cmd := command(dir, os.Environ(), path, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return "", 0, err
	}
	b.closers = append(b.closers, func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	for began := time.Now(); time.Since(began) < patience; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil { //nolint:noctx // of this machine
			return "redis://" + address, cmd.Process.Pid, c.Close()
		}
	}
	return "", 0, fmt.Errorf("redis does not answer on %s", address)
}
