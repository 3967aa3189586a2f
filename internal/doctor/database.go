package doctor

import (
	"context"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app"
)

// Bounds on time.
const (
	// maxDrift is how far two clocks may be apart, and maxAhead how far in the future an
	// event may lie.
	maxDrift = 2 * time.Second
	// retentionGrace is how long an event may be past its retention: what drops it runs
	// every hour, and not while the clocks are not to be trusted.
	retentionGrace = 2 * 24 * time.Hour
	// maxUncovered is how long an event may be without a checkpoint.
	maxUncovered = 5 * time.Minute
)

// leastRetention is the default of the product (R35), in days.
const leastRetention = 90

// database says whether it can be reached.
func database(_ context.Context, s *state) ([]string, error) {
	if s.cfgErr != nil {
		return nil, errSettings
	}
	var f found
	if path, ok := s.embedded(); ok && missing(s.surveyErr) {
		f.when(true, "there is no database at %s: run agentidp serve as the user it is to run as, or set DATA_DIR to where it is", path)
		return f, nil
	}
	f.when(s.surveyErr != nil, "the database cannot be looked at: %v", s.surveyErr)
	return f, nil
}

// schema compares the database's version with the program's.
func schema(_ context.Context, s *state) ([]string, error) {
	if err := s.surveyed(); err != nil {
		return nil, err
	}
	have, want := s.survey.Schema, s.survey.Newest
	var f found
	if _, embedded := s.embedded(); embedded {
		f.when(have < want, "the schema has version %d and this program brings %d: copy the database (agentidp backup), then restart the server, which migrates it", have, want)
	} else {
		f.when(have < want, "the schema has version %d and this program needs %d: run agentidp migrate as the schema's owner", have, want)
	}
	f.when(have > want, "the schema has version %d, newer than the %d of this program: it serves on it, but was the rollback meant to last?", have, want)
	return f, nil
}

// role looks at what the server could do to the record.
func role(_ context.Context, s *state) ([]string, error) {
	if _, embedded := s.embedded(); embedded {
		return nil, errNotAsked
	}
	if err := s.surveyed(); err != nil {
		return nil, err
	}
	var f found
	for _, excess := range s.survey.Excess {
		f.when(true, "%s: let the server work as a role of its own (DATABASE_ROLE, agentidp migrate; docs/deployment.md)", excess)
	}
	return f, nil
}

// durability looks at what the database does with what was committed.
func durability(_ context.Context, s *state) ([]string, error) {
	if _, embedded := s.embedded(); embedded {
		return nil, errNotAsked // the program sets it itself
	}
	return s.survey.Frail, s.surveyed()
}

// clock holds this machine's clock against all that is known of the time.
func clock(_ context.Context, s *state) ([]string, error) {
	var f found
	f.when(!s.Built.IsZero() && s.now.Before(s.Built), "this machine's clock says %s, before this program was made: set it by NTP", s.now.UTC().Format(time.RFC3339))
	if err := s.surveyed(); err != nil {
		return f, err
	}
	drift := s.survey.Drift.Abs()
	f.when(drift > maxDrift, "this machine's clock and the database's are %s apart: tokens expire, and the record tells the time, by both; set them by NTP", drift.Round(100*time.Millisecond))
	ahead := s.survey.NewestEvent.Sub(s.now)
	f.when(ahead > maxDrift, "the newest event is %s in the future of this machine's clock: it is behind, or was ahead; set it by NTP", ahead.Round(time.Second))
	return f, nil
}

// record looks at whether checkpoints follow the events.
func record(_ context.Context, s *state) ([]string, error) {
	if err := s.surveyed(); err != nil {
		return nil, err
	}
	var f found
	open := s.survey.OldestUncovered
	f.when(!open.IsZero() && s.now.Sub(open) > maxUncovered,
		"no checkpoint covers the events since %s: does a server run, and do its witnesses sign? Its log says more", open.UTC().Format(time.RFC3339))
	return f, nil
}

// retention looks at how long events are kept, and whether they go then.
func retention(_ context.Context, s *state) ([]string, error) {
	if s.cfgErr != nil {
		return nil, errSettings
	}
	var f found
	f.when(s.cfg.AuditRetentionDays < leastRetention, "AUDIT_RETENTION_DAYS is %d: less than %d days is seldom enough to find out what happened", s.cfg.AuditRetentionDays, leastRetention)
	if err := s.surveyed(); err != nil {
		return f, err
	}
	f.when(!s.survey.Overdue.IsZero(), "events of %s are still there, past a retention of %d days: does a server run, and are the clocks right? Its log says why it drops nothing",
		s.survey.Overdue.UTC().Format(time.DateOnly), s.survey.OverdueDays)
	return f, nil
}

// sharing asks the Redis that nodes share.
func sharing(ctx context.Context, s *state) ([]string, error) {
	if s.cfgErr != nil {
		return nil, errSettings
	}
	if s.cfg.RedisURL.IsZero() {
		return nil, errNotAsked
	}
	var f found
	err := app.AskRedis(ctx, s.cfg, s.Now)
	f.when(err != nil, "Redis does not do what it is there for (%v): each node limits on its own meanwhile; docs/runbooks/redis-down.md", err)
	return f, nil
}
