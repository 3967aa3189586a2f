package credential

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

var (
	// ErrNotRotatable says that an agent may not rotate this credential by itself; the
	// error that wraps it says why.
	ErrNotRotatable = errors.New("the agent may not rotate this credential")
	// ErrEnded says that the credential no longer lets its agent in.
	ErrEnded = errors.New("the credential is not active")
)

// Bounds on successors that were made and not used.
const (
	// maxPending is how many a credential may have, so that each instance of an agent
	// that lost an answer, or shares the secret, gets another one.
	maxPending = 8
	// stalePending is when one that was not used counts as lost.
	stalePending = 10 * time.Minute
	// maxRecent is how many credentials an agent may have that are good, or ended within
	// Forgotten: all of them are read whenever one is changed.
	maxRecent = 500
)

// Rotator lets agents rotate by themselves, with the old secret (R36).
type Rotator struct {
	store  Store
	minter *Minter
	now    func() time.Time
}

// NewRotator makes a rotator.
func NewRotator(store Store, minter *Minter, now func() time.Time) *Rotator {
	return &Rotator{store: store, minter: minter, now: now}
}

// Rotate makes a successor of the credential that the agent has authenticated with, and
// gives its secret, which nobody can be given again: a call that is repeated makes
// another successor. The old credential stays as it is until a successor has been used,
// so that a lost answer locks nobody out. It fails with ErrNotRotatable, with ErrEnded,
// with RATE_LIMITED where too many successors wait to be used, with CREDENTIAL_ERROR
// where the agent has MaxLive, and with UNAVAILABLE.
func (r *Rotator) Rotate(ctx context.Context, by audit.Origin, organization, agentID, id uuid.UUID) (Issued, error) {
	h, live, err := r.store.Holder(ctx, organization, agentID)
	if err != nil {
		return Issued{}, err
	}
	if _, err := r.plan(h, live, id); err != nil { // before any hashing is paid for
		return Issued{}, err
	}
	issued, err := r.minter.Mint(ctx, organization, agentID, "", time.Time{})
	if err != nil {
		return Issued{}, err
	}
	err = r.store.ChangeCredentials(ctx, organization, agentID, func(h Holder, live []Credential) ([]Credential, audit.Event, error) {
		p, err := r.plan(h, live, id)
		if err != nil {
			return nil, audit.Event{}, err
		}
		issued.Label, issued.RotatedFrom, issued.Pending = p.old.Label, id, true
		issued.NotAfter, issued.ExpiresAt = p.old.NotAfter, p.old.NotAfter
		issued.ExpiresAt = h.Policy.end(issued.Credential)
		details := audit.Details{}.String("successorId", issued.ID.String()).Bool("selfRotation", true)
		if !issued.ExpiresAt.IsZero() {
			details = details.Time("expiresAt", issued.ExpiresAt)
		}
		event := by.Event(p.now, organization, audit.CredentialRotated, p.old.target()).About(agentID).With(details)
		return append([]Credential{issued.Credential}, p.changed...), event, nil
	})
	return issued, err
}

// plan is what a rotation changes beside the successor that it makes.
type plan struct {
	old     Credential
	changed []Credential
	now     time.Time
}

func (r *Rotator) plan(h Holder, live []Credential, id uuid.UUID) (plan, error) {
	p := plan{now: r.now().UTC().Truncate(time.Microsecond)}
	known := byID(live)
	old, ok := known[id]
	if !ok || old.Status(p.now) != Active || h.Status != "active" {
		return p, ErrEnded
	}
	p.old = old
	if reason := whyNotRotatable(h, old); reason != "" {
		return p, fmt.Errorf("%w: %s", ErrNotRotatable, reason)
	}
	if len(live) >= maxRecent {
		return p, tooSoon("the agent has rotated too often lately", time.Hour)
	}
	active, pending := 0, 0
	for _, c := range live {
		if c.Status(p.now) != Active {
			continue
		}
		if c.RotatedFrom == id && c.lost(p.now) {
			if p.now.Sub(c.CreatedAt) >= stalePending {
				c.RevokedAt, c.Pending = p.now, false
				p.changed = append(p.changed, c)
				continue
			}
			pending++
		}
		active++
	}
	if pending >= maxPending {
		return p, tooSoon("too many successors of this credential wait to be used", stalePending)
	}
	if active >= MaxLive {
		return p, tooMany()
	}
	if old.Pending { // it has just been used
		p.changed = append(p.changed, supersede(h, old, known, p.now)...)
	}
	return p, nil
}

func tooSoon(message string, wait time.Duration) error {
	return &fault.Error{Kind: fault.RateLimited, Code: fault.CodeRateLimited, Message: message, RetryAfter: wait}
}

// supersede notes that a successor is in use: what came before it ends after the
// overlap, unless it ends sooner, and so do other successors of it that nobody has used.
// One that is used after all gets its own end back.
func supersede(h Holder, successor Credential, known map[uuid.UUID]Credential, now time.Time) []Credential {
	own := successor
	own.ExpiresAt = own.NotAfter
	successor.Pending, successor.ExpiresAt = false, h.Policy.end(own)
	changed := []Credential{successor}
	overlap := DefaultOverlap
	if h.Policy != nil {
		overlap = h.Policy.Overlap
	}
	endAt := func(c Credential, end time.Time) {
		if c.ExpiresAt.IsZero() || end.Before(c.ExpiresAt) {
			c.ExpiresAt = end
			changed = append(changed, c)
		}
	}
	if before, ok := known[successor.RotatedFrom]; ok && before.Status(now) == Active {
		endAt(before, now.Add(overlap))
	}
	for _, c := range known {
		switch {
		case c.ID == successor.ID || c.RotatedFrom != successor.RotatedFrom || !c.lost(now):
		case now.Sub(c.CreatedAt) >= stalePending:
			c.RevokedAt, c.Pending = now, false
			changed = append(changed, c)
		default:
			endAt(c, now.Add(overlap+lateUse))
		}
	}
	return changed
}

// lateUse is how long after the old one a successor lasts that was not used: long enough
// that the schedule sees the use of the last moment.
const lateUse = time.Minute

// lost reports whether a successor is not known to have reached its agent.
func (c Credential) lost(now time.Time) bool {
	return c.Pending && c.LastUsedAt.IsZero() && c.Status(now) == Active
}

// whyNotRotatable says why an agent may not rotate a credential by itself, empty where
// it may.
func whyNotRotatable(h Holder, c Credential) string {
	switch {
	case h.Policy == nil || !h.Policy.SelfRotation:
		return "no rotation policy lets agents of this type do so"
	case hasManagement(h.Capabilities):
		return "the agent has management scopes; somebody who holds them must"
	case c.Canary:
		return "it is a canary"
	case !c.NotAfter.IsZero() && !c.ExpiresAt.Before(c.NotAfter):
		return "its end was set by somebody, who must make another"
	}
	return ""
}

func hasManagement(capabilities scope.Set) bool {
	return slices.ContainsFunc(capabilities, scope.IsManagement)
}

func byID(all []Credential) map[uuid.UUID]Credential {
	known := make(map[uuid.UUID]Credential, len(all))
	for _, c := range all {
		known[c.ID] = c
	}
	return known
}
