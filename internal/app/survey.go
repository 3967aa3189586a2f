package app

import (
	"context"
	"fmt"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/config"
	"git.sentryagent.ai/sentryagent-idp/internal/redis"
	"git.sentryagent.ai/sentryagent-idp/internal/store"
	"git.sentryagent.ai/sentryagent-idp/internal/store/postgres"
	"git.sentryagent.ai/sentryagent-idp/internal/store/sqlite"
)

// Survey looks at the database, whichever it is, and makes and changes nothing. grace is
// how long an event may be past its retention. It fails with fs.ErrNotExist where the
// embedded database was never made.
func Survey(ctx context.Context, cfg *config.Config, grace time.Duration, now func() time.Time) (store.Survey, error) {
	days := int64(cfg.AuditRetentionDays)
	if path, ok := cfg.Embedded(); ok {
		return sqlite.Survey(ctx, path, days, grace, now())
	}
	return postgres.Survey(ctx, cfg.DatabaseURL, days, grace, now)
}

// AskRedis reports whether the Redis of REDIS_URL does what it is there for.
func AskRedis(ctx context.Context, cfg *config.Config, now func() time.Time) error {
	client, err := redis.Open(cfg.RedisURL, now)
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	defer client.Close()
	return client.Ping(ctx)
}
