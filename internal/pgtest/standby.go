package pgtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Standby makes a streaming standby of the server, starts it, and makes the server
// answer a commit only when the standby has it too. Stop must be called in the end.
func (s *Server) Standby(settings ...string) (*Server, error) {
	dir, err := os.MkdirTemp("", "agentidp-standby-")
	if err != nil {
		return nil, err
	}
	standby := &Server{Dir: filepath.Join(dir, "data"), bin: s.bin}
	if owner := lesser(); owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return nil, err
		}
	}
	out, err := s.Command("pg_basebackup", "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "-U", "owner", "-D", standby.Dir,
		"-R", "-X", "stream", "--checkpoint=fast", "-C", "-S", "standby"+strconv.Itoa(os.Getpid())+strconv.FormatInt(time.Now().UnixNano(), 36)).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	if err := standby.Run(settings...); err != nil {
		return nil, err
	}
	if err := s.Configure("synchronous_standby_names", "FIRST 1 (*)"); err != nil {
		return nil, err
	}
	return standby, s.until("SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'")
}

// Promote makes a standby take writes, without waiting for a standby of its own.
func (s *Server) Promote() error {
	if err := s.query("SELECT pg_promote(true, 30)"); err != nil {
		return err
	}
	return s.Configure("synchronous_standby_names", "")
}

// Configure changes a setting of the running server.
func (s *Server) Configure(name, value string) error {
	if err := s.query("ALTER SYSTEM SET " + name + " = '" + value + "'"); err != nil {
		return err
	}
	return s.query("SELECT pg_reload_conf()")
}

func (s *Server) query(statement string) error {
	db, err := sql.Open("pgx", s.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := db.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// until waits for a question to be answered with true.
func (s *Server) until(question string) error {
	db, err := sql.Open("pgx", s.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var yes bool
		if err := db.QueryRowContext(ctx, question).Scan(&yes); err == nil && yes {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("it never became true: " + question)
		}
	}
}
