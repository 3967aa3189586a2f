package fleet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite" // the driver

	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/keys"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// row is what the three tables hold of a member.
type row struct {
	Member
	capabilities []string
	joined       string
	verifier     credential.Verifier
}

// rows makes the rows of a fleet.
func rows(ctx context.Context, size int) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		root, err := keys.NewRoot(secret.New(RootSecret), secret.Value{})
		if err != nil {
			yield(row{}, err)
			return
		}
		hasher := credential.NewHasher(root, credential.HMAC, time.Now)
		for n := range size {
			m, err := Nth(n)
			if err != nil {
				yield(row{}, err)
				return
			}
			v, err := hasher.Hash(ctx, m.secret)
			c := capabilities(n)
			if !yield(row{Member: m, capabilities: c, joined: c.String(), verifier: v}, err) || err != nil {
				return
			}
		}
	}
}

// SQLite fills a migrated database that no server has open.
func SQLite(ctx context.Context, path string, size int) (err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(OFF)&_pragma=cache_size(-400000)&_pragma=journal_mode(WAL)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	indexes, err := indexesOf(ctx, db)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit
	for name := range indexes {
		if _, err := tx.ExecContext(ctx, "DROP INDEX "+name); err != nil {
			return err
		}
	}
	if err := insert(ctx, tx, size); err != nil {
		return err
	}
	for _, statement := range indexes {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return err
}

// indexesOf gives what the indexes of the registry are made with, as they are faster
// to make at the end.
func indexesOf(ctx context.Context, db *sql.DB) (map[string]string, error) {
	found, err := db.QueryContext(ctx, "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ('agents', 'agent_capabilities', 'credentials')")
	if err != nil {
		return nil, err
	}
	defer found.Close()
	indexes := map[string]string{}
	for found.Next() {
		var name, statement string
		if err := found.Scan(&name, &statement); err != nil {
			return nil, err
		}
		indexes[name] = statement
	}
	return indexes, found.Err()
}

func insert(ctx context.Context, tx *sql.Tx, size int) error {
	agents, err := tx.PrepareContext(ctx, `INSERT INTO agents (id, organization_id, email, agent_type, version, capabilities, owner, deployment_env, status, created_at, updated_at)
		VALUES (?, ?, ?, ?, 'v1.0.0', ?, ?, ?, 'active', ?, ?)`)
	if err != nil {
		return err
	}
	defer func() { _ = agents.Close() }()
	held, err := tx.PrepareContext(ctx, "INSERT INTO agent_capabilities (agent_id, organization_id, capability, created_at, status) VALUES (?, ?, ?, ?, 'active')")
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }()
	credentials, err := tx.PrepareContext(ctx, `INSERT INTO credentials (id, agent_id, organization_id, key_id, fingerprint, fingerprint_key, created_at)
		VALUES (?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer func() { _ = credentials.Close() }()
	for r, err := range rows(ctx, size) {
		if err != nil {
			return err
		}
		at := r.CreatedAt.UnixMicro()
		if _, err := agents.ExecContext(ctx, r.ClientID, r.Organization, r.Email, r.Type, r.joined, r.Owner, r.Deployment, at, at); err != nil {
			return err
		}
		for _, c := range r.capabilities {
			if _, err := held.ExecContext(ctx, r.ClientID, r.Organization, c, at); err != nil {
				return err
			}
		}
		if _, err := credentials.ExecContext(ctx, r.CredentialID, r.ClientID, r.Organization, r.KeyID, r.verifier.Fingerprint, r.verifier.FingerprintKeyID, at); err != nil {
			return err
		}
	}
	return nil
}

// Postgres fills a migrated database, table by table, by COPY.
func Postgres(ctx context.Context, url string, size int) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = copyRows(ctx, conn, size, "agents", []string{
		"id", "organization_id", "email", "agent_type", "version", "capabilities", "owner", "deployment_env", "status", "created_at", "updated_at",
	}, func(r row, add func(...any)) {
		add(r.ClientID, r.Organization, r.Email, r.Type, "v1.0.0", r.joined, r.Owner, r.Deployment, "active", r.CreatedAt, r.CreatedAt)
	})
	if err != nil {
		return err
	}
	err = copyRows(ctx, conn, size, "agent_capabilities", []string{"agent_id", "organization_id", "capability", "created_at", "status"}, func(r row, add func(...any)) {
		for _, c := range r.capabilities {
			add(r.ClientID, r.Organization, c, r.CreatedAt, "active")
		}
	})
	if err != nil {
		return err
	}
	err = copyRows(ctx, conn, size, "credentials", []string{"id", "agent_id", "organization_id", "key_id", "fingerprint", "fingerprint_key", "created_at"}, func(r row, add func(...any)) {
		add(r.CredentialID, r.ClientID, r.Organization, r.KeyID, r.verifier.Fingerprint, r.verifier.FingerprintKeyID, r.CreatedAt)
	})
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "VACUUM ANALYZE agents, agent_capabilities, credentials")
	return err
}

func copyRows(ctx context.Context, conn *pgx.Conn, size int, table string, columns []string, give func(r row, add func(...any))) error {
	next, stop := iter.Pull2(rows(ctx, size))
	defer stop()
	var waiting [][]any
	_, err := conn.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		for len(waiting) == 0 {
			r, err, more := next()
			if err != nil || !more {
				return nil, err
			}
			give(r, func(values ...any) { waiting = append(waiting, values) })
		}
		first := waiting[0]
		waiting = waiting[1:]
		return first, nil
	}))
	if err != nil {
		return fmt.Errorf("filling %s: %w", table, err)
	}
	return nil
}
