package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
)

// Backup writes the database at path, as one transaction sees it, to a new file
// (0600); it fails with fs.ErrExist where there is a file already. The copy is whole
// and on the disk before it has its name. A server may write meanwhile: it is not
// held up, and its write-ahead log grows until the copy is made.
func Backup(ctx context.Context, path, to string) (err error) {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("there is no database to copy: %w", err)
	}
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("the copy is not made: %w", &fs.PathError{Op: "create", Path: to, Err: fs.ErrExist})
	}
	file, err := os.CreateTemp(filepath.Dir(to), filepath.Base(to)+".part-*") // mode 0600
	if err != nil {
		return fmt.Errorf("making the copy: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	if err := vacuumInto(ctx, path, file.Name()); err != nil {
		return fmt.Errorf("copying %s: %w", path, err)
	}
	if err := check(ctx, file.Name()); err != nil {
		return fmt.Errorf("reading the copy: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("writing the copy to the disk: %w", err)
	}
	// A link, unlike a rename, never replaces what is there.
	if err := os.Link(file.Name(), to); err != nil {
		return fmt.Errorf("naming the copy: %w", err)
	}
	return syncDir(filepath.Dir(to))
}

// vacuumInto copies through a connection that can only read.
func vacuumInto(ctx context.Context, path, to string) (err error) {
	db, err := readOnly(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, "VACUUM INTO ?", to)
	return err
}

// check reads all of a database file.
func check(ctx context.Context, path string) (err error) {
	db, err := readOnly(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("it is damaged: %s", verdict)
	}
	return nil
}

func readOnly(path string) (*sql.DB, error) {
	q := url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(10000)", "trusted_schema(0)"}}
	return sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
}

func syncDir(path string) error {
	dir, err := os.Open(path) //nolint:gosec // the path is the operator's own
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
