package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/revocation"
)

const jobColumns = `r.place, r.id, r.organization_id, r.action, r.selector, r.reason, r.actor_type, r.actor_id, r.request_id, r.source_ip,
	r.matched, r.changed, r.written, r.created_at, r.completed_at, r.undoes, r.undone_by, r.receipt, r.term, r.holder`

func scanJob(row scanner) (revocation.Job, error) {
	var (
		j        revocation.Job
		selector string
	)
	err := row.Scan(
		&j.Place, &j.ID, &j.OrganizationID, &j.Action, &selector, &j.Reason, &j.By.Actor.Type, &j.By.Actor.ID, &j.By.RequestID, &j.By.SourceIP,
		&j.Matched, &j.Changed, &j.Written,
		when{&j.CreatedAt},
		when{&j.CompletedAt},
		maybeID{&j.Undoes},
		maybeID{&j.UndoneBy},
		&j.Receipt, &j.Term, &j.Holder)
	if err != nil {
		return j, err
	}
	j.Selector, err = revocation.ParseSelector(selector)
	return j, err
}

func (s *Store) job(ctx context.Context, q querier, organization, id uuid.UUID) (revocation.Job, error) {
	j, err := scanJob(s.row(ctx, q, "SELECT "+jobColumns+" FROM revocations r WHERE r.id = $1 AND r.organization_id = $2", id, organization))
	if errors.Is(err, sql.ErrNoRows) {
		return j, fault.New(fault.NotFound, fault.CodeNotFound, "there is no such revocation")
	}
	if err != nil {
		return j, broken("reading a revocation of agents", err)
	}
	return j, nil
}

// Revocation gives one job of the organization.
func (s *Store) Revocation(ctx context.Context, organization, id uuid.UUID) (revocation.Job, error) {
	return s.job(ctx, s.read, organization, id)
}

// Revocations lists an organization's jobs, newest first.
func (s *Store) Revocations(ctx context.Context, organization uuid.UUID, q page.Query) (page.Page[revocation.Job], error) {
	var w where
	w.add("r.organization_id = $?", organization)
	w.after("r.created_at", "r.id", q.After)
	rows, err := listed(ctx, s, scanJob, "SELECT "+jobColumns+" FROM revocations r WHERE "+w.String()+
		" ORDER BY r.created_at DESC, r.id DESC LIMIT "+strconv.Itoa(q.Limit+1), s.dialect.Once(w.args)...)
	if err != nil {
		return page.Page[revocation.Job]{}, broken("listing revocations of agents", err)
	}
	return page.Cut(rows, q.Limit, func(j revocation.Job) page.Cursor { return page.Cursor{Time: j.CreatedAt, ID: j.ID} }), nil
}

// OldestRevocation gives the oldest job that is not completed.
func (s *Store) OldestRevocation(ctx context.Context) (revocation.Job, bool, error) {
	j, err := scanJob(s.row(ctx, s.read, "SELECT "+jobColumns+" FROM revocations r WHERE r.completed_at IS NULL ORDER BY r.place LIMIT 1"))
	if errors.Is(err, sql.ErrNoRows) {
		return j, false, nil
	}
	if err != nil {
		return j, false, broken("looking for a revocation to write", err)
	}
	return j, true, nil
}

// SeizeRevocation lets a node write the job under the next term.
func (s *Store) SeizeRevocation(ctx context.Context, j revocation.Job, holder string) (revocation.Job, error) {
	n, err := s.exec(ctx, s.write, "UPDATE revocations SET term = term + 1, holder = $1 WHERE place = $2 AND term = $3 AND completed_at IS NULL", holder, j.Place, j.Term)
	if err != nil {
		return j, broken("taking over a revocation", err)
	}
	if n == 0 {
		return j, revocation.ErrLost
	}
	j.Term, j.Holder = j.Term+1, holder
	return j, nil
}

// AdvanceRevocation writes the next agents of a job.
func (s *Store) AdvanceRevocation(ctx context.Context, j revocation.Job, limit int, now time.Time) (revocation.Job, error) {
	var next revocation.Job
	err := s.transact(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lock(ctx, tx); err != nil {
			return err
		}
		var err error
		if next, err = s.job(ctx, tx, j.OrganizationID, j.ID); err != nil {
			return err
		}
		if next.Term != j.Term || next.Holder != j.Holder || next.Completed() {
			return revocation.ErrLost
		}
		if older, err := s.olderOpen(ctx, tx, next); err != nil || older {
			return cmp.Or(err, revocation.ErrLost)
		}
		events, err := s.advance(ctx, tx, &next, limit, now)
		if err != nil {
			return err
		}
		return s.append(ctx, tx, events...)
	})
	return next, err
}
