package app

import (
	"context"
	"errors"

	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/store/sqlite"
)

// ErrNotEmbedded says that the database has its own tools to be copied with.
var ErrNotEmbedded = errors.New("only the embedded database is copied so; for PostgreSQL use pg_dump or pg_basebackup, as docs/runbooks/postgres-backup.md does")

// Backup copies the embedded database to a new file, beside a running server or
// without one. rootSecret is the file of the root secret that belongs to it; it is
// empty where the secret is given by JWT_SECRET.
func Backup(ctx context.Context, cfg *config.Config, to string) (rootSecret string, err error) {
	path, ok := cfg.Embedded()
	if !ok {
		return "", ErrNotEmbedded
	}
	if err := sqlite.Backup(ctx, path, to); err != nil {
		return "", err
	}
	if cfg.RootSecret.IsZero() {
		rootSecret = SecretPath(cfg)
	}
	return rootSecret, nil
}
