package app

import (
	"context"
	"log/slog"

	"git.sentryagent.ai/sentryagent-idp/internal/token"
)

// caches tells operators how well what is remembered serves.
type caches struct {
	logger    *slog.Logger
	directory *token.Directory
	verifier  *token.Verifier

	// noted is what the log was told last, of the directory and of the verifier.
	noted [2]token.Stats
}

// note writes to the log what was asked of the caches since it was last called;
// nothing where nothing was.
func (c *caches) note(ctx context.Context) {
	now := [2]token.Stats{c.directory.Stats(), c.verifier.Stats()}
	if now == c.noted {
		return
	}
	directory, verifier := now[0].Since(c.noted[0]), now[1].Since(c.noted[1])
	c.noted = now
	c.logger.InfoContext(ctx, "caches",
		slog.Group("directory", "hits", directory.Hits, "misses", directory.Misses),
		slog.Group("verifier", "hits", verifier.Hits, "misses", verifier.Misses))
}
