package credential

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
)

// Due is a credential that the schedule has to look at, with its agent.
type Due struct {
	Credential
	Holder Holder
	// WarnAt is when it was to be looked at.
	WarnAt time.Time
	// Warned is how long before its end it was told of last, Untold where it was not.
	Warned time.Duration
}

// Untold is the Warned of a credential whose end nobody was told of.
const Untold = -time.Second

// Look is what became of a look at a credential.
type Look struct {
	ID uuid.UUID
	// Seen is the WarnAt that was looked at: where it is another one now, somebody else
	// has looked, and nothing is written.
	Seen time.Time
	// Next is when to look again, zero for never.
	Next   time.Time
	Warned time.Duration
	// Event is what is told, nil where nothing is.
	Event *audit.Event
}

// ScheduleStore is what a Schedule works on.
type ScheduleStore interface {
	PolicySource
	// ApplyRotationPolicy takes the next agents, at most limit, of a policy that was set
	// and not applied to them, lets decide say when their live credentials end, and
	// writes that and the event, where there is any change, in one transaction. It
	// reports whether there is more to do. It may be called by any number of nodes.
	ApplyRotationPolicy(ctx context.Context, limit int, decide func(p RotationPolicy, c Credential) (end time.Time, changed bool),
		event func(p RotationPolicy, changed []Credential) audit.Event) (more bool, err error)
	// DueCredentials gives credentials whose time to be looked at has come, at most limit.
	DueCredentials(ctx context.Context, now time.Time, limit int) ([]Due, error)
	// NoteLooks writes what became of looks, and their events, in one transaction, and
	// gives how many events there were.
	NoteLooks(ctx context.Context, looks []Look) (told int, err error)
	// UsedSuccessors gives successors that agents made and have used by now, in order of
	// their ids, after the one and at most limit.
	UsedSuccessors(ctx context.Context, after uuid.UUID, limit int) ([]Credential, error)
	// RetiringCredentials gives credentials that are to be revoked once they are unused,
	// in order of their ids, after the one and at most limit.
	RetiringCredentials(ctx context.Context, after uuid.UUID, limit int) ([]Credential, error)
}

// Sizes of the schedule's transactions.
const (
	applyAtOnce = 200 // agents
	lookAtOnce  = 500 // credentials
	applyPause  = 20 * time.Millisecond
)

// Schedule does what time makes due of credentials: it brings old ones under new
// policies, ends those whose successor is in use, tells of ends before they come, and
// retires what nobody uses. Any number of nodes may run one.
type Schedule struct {
	store   ScheduleStore
	changes Store
	now     func() time.Time
}

// NewSchedule makes a schedule.
func NewSchedule(store ScheduleStore, changes Store, now func() time.Time) *Schedule {
	return &Schedule{store: store, changes: changes, now: now}
}

// Run does what is due. It fails with UNAVAILABLE or ctx's error; what was done until
// then is done, and the next run goes on.
func (s *Schedule) Run(ctx context.Context) error {
	return errors.Join(s.apply(ctx), s.supersede(ctx), s.warn(ctx), s.retire(ctx))
}

func (s *Schedule) apply(ctx context.Context) error {
	for {
		more, err := s.store.ApplyRotationPolicy(ctx, applyAtOnce,
			func(p RotationPolicy, c Credential) (time.Time, bool) { return p.Apply(c, s.now()) },
			func(p RotationPolicy, changed []Credential) audit.Event {
				ids := make([]string, len(changed))
				for i, c := range changed {
					ids[i] = c.ID.String()
				}
				return s.by().Event(s.now(), p.OrganizationID, audit.RotationPolicyApplied, policyTarget(p.AgentType)).
					With(p.details().Strings("credentialIds", ids))
			})
		if err != nil || !more {
			return err
		}
		select {
		case <-time.After(applyPause): // whoever wants a token comes between
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Schedule) by() audit.Origin { return audit.System("rotation") }

// supersede ends what was rotated, once its successor is in use, and successors that
// were lost on their way.
func (s *Schedule) supersede(ctx context.Context) error {
	return s.each(ctx, s.store.UsedSuccessors, func(used Credential) error {
		return s.changes.ChangeCredentials(ctx, used.OrganizationID, used.AgentID, func(h Holder, live []Credential) ([]Credential, audit.Event, error) {
			now, known := s.now().UTC().Truncate(time.Microsecond), byID(live)
			successor, ok := known[used.ID]
			if !ok || !successor.Pending {
				return nil, audit.Event{}, errNothingToWrite // another node has done it
			}
			changed := supersede(h, successor, known, now)
			details := audit.Details{}.String("successorId", successor.ID.String())
			if before := changed[min(1, len(changed)-1)]; before.ID == successor.RotatedFrom {
				details = details.Time("oldExpiresAt", before.ExpiresAt)
			}
			target := audit.Target{Type: audit.TypeCredential, ID: successor.RotatedFrom.String()}
			return changed, s.by().Event(now, h.OrganizationID, audit.CredentialSuperseded, target).About(h.AgentID).With(details), nil
		})
	})
}

// each walks a list and does something with every credential of it.
func (s *Schedule) each(ctx context.Context, list func(ctx context.Context, after uuid.UUID, limit int) ([]Credential, error), do func(Credential) error) error {
	var after uuid.UUID
	var failures []error
	for {
		all, err := list(ctx, after, lookAtOnce)
		if err != nil {
			return errors.Join(append(failures, err)...)
		}
		for _, c := range all {
			if err := do(c); err != nil && !errors.Is(err, errNothingToWrite) {
				failures = append(failures, err)
			}
			after = c.ID
		}
		if len(all) < lookAtOnce || ctx.Err() != nil || len(failures) > lookAtOnce/10 {
			return errors.Join(failures...)
		}
	}
}

// retire revokes credentials that are to go once nobody uses them.
func (s *Schedule) retire(ctx context.Context) error {
	return s.each(ctx, s.store.RetiringCredentials, func(c Credential) error {
		if !c.unused(s.now()) {
			return nil
		}
		return s.changes.ChangeCredentials(ctx, c.OrganizationID, c.AgentID, func(h Holder, live []Credential) ([]Credential, audit.Event, error) {
			now := s.now().UTC().Truncate(time.Microsecond)
			c, ok := byID(live)[c.ID]
			if !ok || !c.unused(now) {
				return nil, audit.Event{}, errNothingToWrite
			}
			details := audit.Details{}.Int("unusedForSeconds", seconds(c.RetireAfter))
			if !c.LastUsedAt.IsZero() {
				details = details.Time("lastUsedAt", c.LastUsedAt)
			}
			c.RevokedAt, c.RetireAfter, c.RetireSince = now, 0, time.Time{}
			return []Credential{c}, s.by().Event(now, h.OrganizationID, audit.CredentialRevoked, c.target()).About(h.AgentID).
				Because("unused").With(details), nil
		})
	})
}

// unused reports whether a credential that is to be retired has been unused for long
// enough.
func (c Credential) unused(now time.Time) bool {
	since := c.RetireSince
	if c.LastUsedAt.After(since) {
		since = c.LastUsedAt
	}
	return c.RetireAfter > 0 && !now.Before(since.Add(c.RetireAfter))
}

// warn tells of ends that come near, and of those that came.
func (s *Schedule) warn(ctx context.Context) error {
	type kind struct {
		organization uuid.UUID
		agentType    string
	}
	policies := map[kind]*RotationPolicy{}
	for {
		now := s.now().UTC().Truncate(time.Microsecond)
		due, err := s.store.DueCredentials(ctx, now, lookAtOnce)
		if err != nil || len(due) == 0 {
			return err
		}
		looks := make([]Look, len(due))
		for i, d := range due {
			k := kind{d.OrganizationID, d.Holder.AgentType}
			p, known := policies[k]
			if !known {
				if p, err = s.store.RotationPolicy(ctx, k.organization, k.agentType); err != nil {
					return err
				}
				policies[k] = p
			}
			d.Holder.Policy = p
			looks[i] = d.look(now, s.by())
		}
		if _, err := s.store.NoteLooks(ctx, looks); err != nil {
			return err
		}
		if len(due) < lookAtOnce {
			return nil
		}
	}
}

// look says what is to be told of a credential now, and when to look at it again. Of
// warnings whose time has passed the last is told alone.
func (d Due) look(now time.Time, by audit.Origin) Look {
	l := Look{ID: d.ID, Seen: d.WarnAt, Warned: d.Warned}
	if !d.RevokedAt.IsZero() || d.ExpiresAt.IsZero() {
		return l
	}
	warnings := defaultWarnings()
	if d.Holder.Policy != nil {
		warnings = d.Holder.Policy.WarnBefore
	}
	left := d.ExpiresAt.Sub(now)
	if left > 0 {
		l.Next = d.ExpiresAt
	}
	action, told := audit.CredentialExpired, time.Duration(0)
	if left > 0 {
		action, told = audit.CredentialExpiring, Untold
		for _, w := range warnings { // longest first
			if left > w {
				l.Next = d.ExpiresAt.Add(-w)
				break
			}
			told = w
		}
	}
	if told == Untold || d.Warned != Untold && told >= d.Warned {
		return l
	}
	l.Warned = told
	event := by.Event(now, d.OrganizationID, action, d.target()).About(d.AgentID).With(d.warning(told))
	l.Event = &event
	return l
}

func (d Due) warning(told time.Duration) audit.Details {
	reason := whyNotRotatable(d.Holder, d.Credential)
	details := audit.Details{}.Time("expiresAt", d.ExpiresAt)
	if told > 0 {
		details = details.Int("warnBeforeSeconds", seconds(told)).Bool("selfRotation", reason == "")
		if reason != "" {
			details = details.String("because", reason)
		}
	}
	if !d.LastUsedAt.IsZero() {
		details = details.Time("lastUsedAt", d.LastUsedAt)
	}
	return details
}
