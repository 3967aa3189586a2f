package pgtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver

	"git.sentryagent.ai/sentryagent-idp/internal/porttest"
)

// patience bounds the start; it is reached only when something hangs.
const patience = 60 * time.Second

// Missing says what to install where there is no PostgreSQL.
const Missing = "PostgreSQL is missing: install it (Debian: apt-get install postgresql) or put its binaries on PATH"

// Server is a running PostgreSQL.
type Server struct {
	Port int
	Dir  string

	bin    string
	cmd    *exec.Cmd
	exited chan struct{} // closed when the server has ended
	end    error         // how it ended
}

// Start makes a database cluster and starts it. settings are lines of
// postgresql.conf. Stop must be called in the end.
func Start(settings ...string) (*Server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "agentidp-postgres-")
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: filepath.Join(dir, "data"), bin: bin}
	if owner := lesser(); owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return nil, err
		}
	}
	if out, err := s.Command("initdb", "-A", "trust", "-U", "owner", "-E", "UTF8", "--no-locale", "--no-sync", "-k", "-D", s.Dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return s, s.Run(settings...)
}

// Command prepares one of PostgreSQL's programs, to run as a user that is not root.
func (s *Server) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...) //nolint:gosec,noctx // the programs of the tests
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PGUSER=owner", "PGHOST=127.0.0.1")
	cmd.Dir = filepath.Dir(s.Dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: lesser(), Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Run starts the server of a folder that is there, on a free port unless it had one.
func (s *Server) Run(settings ...string) error {
	if s.Port == 0 {
		port, err := porttest.Free()
		if err != nil {
			return err
		}
		s.Port = port
	}
	args := []string{"-D", s.Dir, "-p", strconv.Itoa(s.Port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="}
	for _, setting := range append([]string{"max_connections=200", "fsync=off"}, settings...) {
		args = append(args, "-c", setting)
	}
	log, err := os.OpenFile(s.Dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	s.cmd = s.Command("postgres", args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.exited = make(chan struct{})
	go func() {
		defer close(s.exited)
		s.end = s.cmd.Wait()
	}()
	return s.ready()
}

func (s *Server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	db, err := sql.Open("pgx", s.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if db.PingContext(ctx) == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.exited:
			log, _ := os.ReadFile(s.Dir + ".log")
			return fmt.Errorf("PostgreSQL ended: %w\n%s", s.end, log)
		case <-ctx.Done():
			return errors.New("PostgreSQL does not answer")
		}
	}
}

// URL is that of a database, as the owner of everything.
func (s *Server) URL(database string) string { return s.URLAs("owner", database) }

// URLAs is the URL of a database as another role.
func (s *Server) URLAs(role, database string) string {
	return "postgres://" + role + "@127.0.0.1:" + strconv.Itoa(s.Port) + "/" + database + "?sslmode=disable"
}

// Kill ends the server as a crash would.
func (s *Server) Kill() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	<-s.exited
}

// Restart starts a server that was killed. Its children may outlive it for a
// moment, and until then a new one does not start.
func (s *Server) Restart(t testing.TB, settings ...string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := s.Run(settings...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// Stop ends the server and removes its folder.
func (s *Server) Stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Signal(syscall.SIGQUIT)
		<-s.exited
	}
	_ = os.RemoveAll(filepath.Dir(s.Dir))
}

// Database makes an empty database that goes with the test, and gives its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "t" + strconv.FormatInt(time.Now().UnixNano(), 36)
	s.Exec(t, "postgres", "CREATE DATABASE "+name)
	return s.URL(name)
}

// Exec runs a statement as the owner.
func (s *Server) Exec(t testing.TB, database, statement string) {
	t.Helper()
	db, err := sql.Open("pgx", s.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(context.Background(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// binaries finds PostgreSQL's programs: on PATH, or where Debian puts them.
func binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		target, err := filepath.EvalSymlinks(path)
		return filepath.Dir(target), err
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.New(Missing)
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return major(a) - major(b) })
	return filepath.Dir(newest), nil
}

func major(path string) int {
	n, _ := strconv.Atoi(strings.Split(path, "/")[4])
	return n
}

// lesser is the user that PostgreSQL runs as where the tests run as root, which it
// refuses.
func lesser() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil
}
