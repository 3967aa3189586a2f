package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"git.sentryagent.ai/sentryagent-idp/bench/fleet"
	"git.sentryagent.ai/sentryagent-idp/bench/load"
	"git.sentryagent.ai/sentryagent-idp/bench/machine"
)

// patience bounds what has no bound of its own.
const patience = 5 * time.Minute

// target is a server that is measured.
type target struct {
	name    string
	address string
	// ready is how long it took from its start until it answered.
	ready time.Duration
	cmd   *exec.Cmd
	said  string // the file of what it said
	// pids are the server and what it works with: its database, its Redis.
	pids    []int
	ended   chan struct{} // closed when the server has ended
	members []fleet.Member
	size    int
	managed string // the bearer token of member 0
	issued  []string
}

// launch starts a server and waits until it is ready.
func launch(ctx context.Context, name string, cmd *exec.Cmd, log string) (*target, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600) //nolint:gosec // our own
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	said, err := os.CreateTemp(filepath.Dir(log), "said-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = said.Close() }()
	cmd.Stdout, cmd.Stderr = out, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t := &target{name: name, cmd: cmd, said: said.Name(), pids: []int{cmd.Process.Pid}, ended: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(t.ended) }()
	if err := t.await(ctx); err != nil {
		t.stop()
		text, _ := os.ReadFile(said.Name())
		return nil, fmt.Errorf("starting %s: %w\n%s", name, err, text)
	}
	t.ready = time.Since(began)
	return t, nil
}

// await polls until the server says where it listens, and that it is ready.
func (t *target) await(ctx context.Context) error {
	line := regexp.MustCompile(`(?m)^\w+ (?:\S+ )?listens on (\S+)$`)
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(t.said)
		if err != nil {
			return err
		}
		if found := line.FindSubmatch(text); found != nil {
			t.address = string(found[1])
			answer, err := get(ctx, client, "http://"+t.address+"/health/ready")
			if err == nil && answer == http.StatusOK {
				return nil
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		select {
		case <-t.ended:
			return errors.New("it has ended")
		default:
		}
		if time.Since(began) > patience {
			return errors.New("it does not become ready")
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, errors.Join(err, answer.Body.Close())
}

func (t *target) stop() {
	_ = t.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-t.ended:
	case <-time.After(15 * time.Second):
		_ = t.cmd.Process.Kill()
		<-t.ended
	}
}

// ask carries a plan out in a process of its own, and gives the CPU time that the
// server and its database took for each answer.
func (t *target) ask(ctx context.Context, p load.Plan) (load.Result, time.Duration, error) {
	p.Address = t.address
	plan, err := json.Marshal(p)
	if err != nil {
		return load.Result{}, 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return load.Result{}, 0, err
	}
	cmd := exec.CommandContext(ctx, self, loadCommand) //nolint:gosec // this program
	var out, failed bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(plan), &out, &failed
	before, err := machine.CPU(t.pids...)
	if err != nil {
		return load.Result{}, 0, err
	}
	if err := cmd.Run(); err != nil {
		return load.Result{}, 0, fmt.Errorf("asking %s: %w\n%s", t.name, err, failed.String())
	}
	after, err := machine.CPU(t.pids...)
	if err != nil {
		return load.Result{}, 0, err
	}
	var r load.Result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return load.Result{}, 0, err
	}
	if r.Wrong > 0 {
		return r, 0, fmt.Errorf("%s answered %d of %d otherwise than it should: %s", t.name, r.Wrong, r.Answered, r.FirstWrong)
	}
	return r, (after - before) / time.Duration(max(r.Answered, 1)), nil
}

// environment is what a measured server is told: everything on, limits so high that
// they are counted and never reached.
func environment(dir string, more ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "PORT=0", "DATA_DIR=" + dir, "JWT_SECRET=" + fleet.RootSecret, "SECRET_HASHER=hmac",
		"JWT_ISSUER=http://localhost:3000", "RATE_LIMIT_SOURCE=100000000", "RATE_LIMIT_CLIENT=100000000",
	}, more...)
}

// command prepares a program in a folder.
func command(dir string, environ []string, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...) //nolint:gosec,noctx // it is stopped by hand
	cmd.Dir, cmd.Env = dir, environ
	return cmd
}

// must runs a command to its end.
func must(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}
