package credential_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// rotating is a world whose agent may rotate by itself.
type rotating struct {
	*world
	rotator *credential.Rotator
	policy  *credential.RotationPolicy
	first   credential.Issued
}

func newRotating(t *testing.T) *rotating {
	t.Helper()
	w := newWorld(t)
	p := credential.DefaultPolicy()
	p.Overlap = time.Hour
	r := &rotating{world: w, policy: &p, first: w.mustCreate(credential.Request{Label: "main"})}
	w.store.holder.Policy = r.policy
	minter := credential.NewMinter(newHasher(t, credential.HMAC, w.clock, newRoot, secret.Value{}), w.now)
	r.rotator = credential.NewRotator(w.store, minter, w.now)
	return r
}

func (r *rotating) itself(of credential.Issued) (credential.Issued, error) {
	return r.rotator.Rotate(r.Context(), audit.System("agent"), r.org, r.agent, of.ID)
}

func (r *rotating) must(of credential.Issued) credential.Issued {
	r.Helper()
	issued, err := r.itself(of)
	if err != nil {
		r.Fatal(err)
	}
	return issued
}

// use marks a credential as used now, as a token would.
func (r *rotating) use(c credential.Issued) {
	for i := range r.store.all {
		if r.store.all[i].ID == c.ID {
			r.store.all[i].LastUsedAt = r.at
		}
	}
}

func (r *rotating) stored(c credential.Issued) credential.Credential {
	r.Helper()
	stored, err := r.store.Credential(r.Context(), r.org, r.agent, c.ID)
	if err != nil {
		r.Fatal(err)
	}
	return stored
}

func TestALostAnswerLocksNobodyOut(t *testing.T) { // (R36)
	r := newRotating(t)
	lost, second := r.must(r.first), r.must(r.first)
	if lost.Secret == second.Secret || lost.ID == second.ID || second.RotatedFrom != r.first.ID || second.Label != "main" || !second.Pending {
		t.Errorf("the second successor is %+v, the first was %+v", second.Credential, lost.Credential)
	}
	for _, c := range []credential.Issued{r.first, lost, second} {
		if r.status(c.ID) != credential.Active || !r.stored(c).ExpiresAt.IsZero() {
			t.Errorf("%+v has an end", r.stored(c))
		}
	}
	// For ever so long nobody uses a successor, and the first is good.
	r.advance(300 * 24 * time.Hour)
	third := r.must(r.first)
	if r.status(r.first.ID) != credential.Active || r.status(lost.ID) != credential.Revoked || r.status(second.ID) != credential.Revoked || r.status(third.ID) != credential.Active {
		t.Error("successors that were lost long ago are still good, or what is not is")
	}
	// Whoever rotates with a successor has it: what was before ends after the overlap.
	fourth := r.must(third)
	if end := r.stored(r.first).ExpiresAt; !end.Equal(r.at.Add(time.Hour)) || r.stored(third).Pending {
		t.Errorf("the first ends at %v, and the third is pending: %v", end, r.stored(third).Pending)
	}
	r.advance(time.Hour)
	if r.status(r.first.ID) != credential.Expired || r.status(third.ID) != credential.Active || r.status(fourth.ID) != credential.Active {
		t.Error("after the overlap something else has ended than the first")
	}
	// A successor of the third that got lost ends with the third, once another is used;
	// one that is used late all the same does not.
	missed, late, taken := r.must(fourth), r.must(fourth), r.must(fourth)
	r.must(taken)
	r.use(late)
	r.must(late)
	r.advance(time.Hour + time.Minute)
	if r.status(fourth.ID) != credential.Expired || r.status(missed.ID) != credential.Expired || r.status(late.ID) != credential.Active || r.status(taken.ID) != credential.Active {
		t.Error("a lost successor lives on, or one that is used does not")
	}
	if _, err := r.itself(r.first); !errors.Is(err, credential.ErrEnded) {
		t.Errorf("what has ended is rotated: %v", err)
	}
}

func TestInstancesThatShareASecretDoNotPushEachOtherOut(t *testing.T) {
	r := newRotating(t)
	var got []credential.Issued
	for range 8 {
		got = append(got, r.must(r.first))
	}
	_, err := r.itself(r.first)
	if f := fault.As(err); f == nil || f.Kind != fault.RateLimited || f.RetryAfter <= 0 {
		t.Errorf("the ninth at once: %v", err)
	}
	for _, c := range append(got, r.first) {
		if r.status(c.ID) != credential.Active {
			t.Error("a ninth successor pushed another out")
		}
	}
	r.use(got[0])
	r.must(r.first) // there is room, as one is in use
	r.advance(10 * time.Minute)
	r.must(r.first)
	if r.status(got[0].ID) != credential.Active || r.status(got[1].ID) != credential.Revoked {
		t.Error("what is in use was taken for lost, or the other way round")
	}
}

// Each change of a credential reads all that have not long ended: an agent must not be
// able to make that dear.
func TestAnAgentThatRotatesWithoutEndIsStopped(t *testing.T) {
	r := newRotating(t)
	r.policy.Overlap = 0
	current := r.first
	for n := range 1000 {
		next, err := r.itself(current)
		if f := fault.As(err); f != nil && f.Kind == fault.RateLimited && f.RetryAfter > 0 {
			if n < 400 {
				t.Errorf("after %d rotations it is stopped", n)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		current = next
		r.advance(time.Second)
	}
	t.Error("a thousand rotations went through")
}

func TestWhatAnAgentMayNotRotateByItself(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *rotating)
		says   string
	}{
		"without a policy":        {func(r *rotating) { r.store.holder.Policy = nil }, "no rotation policy"},
		"a policy against it":     {func(r *rotating) { r.policy.SelfRotation = false }, "no rotation policy"},
		"with management scopes":  {func(r *rotating) { r.store.holder.Capabilities = scope.New("mail:send", "agents:read") }, "management scopes"},
		"an end set by somebody":  {func(r *rotating) { r.first = r.mustCreate(credential.Request{ExpiresAt: r.at.Add(time.Hour)}) }, "its end was set"},
		"a canary":                {func(r *rotating) { r.first = r.mustCreate(credential.Request{Canary: true}) }, "canary"},
		"rotated by somebody":     {func(r *rotating) { _, _ = r.rotate(r.first.ID, credential.Request{Overlap: time.Hour}) }, "its end was set"},
		"one of a suspended":      {func(r *rotating) { r.store.holder.Status = "suspended" }, ""},
		"one that has ended":      {func(r *rotating) { _ = r.revoke(r.first.ID) }, ""},
		"revoked in the meantime": {func(r *rotating) { r.store.meanwhile = func() { r.store.all[0].RevokedAt = r.at } }, ""},
		"suspended meanwhile":     {func(r *rotating) { r.store.meanwhile = func() { r.store.holder.Status = "suspended" } }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRotating(t)
			c.change(r)
			before := len(r.store.all)
			_, err := r.itself(r.first)
			if c.says == "" && !errors.Is(err, credential.ErrEnded) || c.says != "" && (!errors.Is(err, credential.ErrNotRotatable) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("it gave %v, want %q", err, c.says)
			}
			if len(r.store.all) != before {
				t.Error("a credential was made")
			}
		})
	}
	r := newRotating(t)
	for range 19 {
		r.mustCreate(credential.Request{})
	}
	if _, err := r.itself(r.first); !fault.Is(err, fault.CodeCredential) {
		t.Errorf("with twenty: %v", err)
	}
}

func TestAPolicyGivesCredentialsTheirEnd(t *testing.T) {
	r := newRotating(t)
	r.policy.MaxAge = 90 * 24 * time.Hour
	end, sooner := r.at.Add(r.policy.MaxAge), r.at.Add(24*time.Hour)
	if c := r.mustCreate(credential.Request{}); !c.ExpiresAt.Equal(end) || !c.NotAfter.IsZero() || !r.stored(c).ExpiresAt.Equal(end) {
		t.Errorf("a new one ends at %v, and %v was set", c.ExpiresAt, c.NotAfter)
	}
	later := r.mustCreate(credential.Request{ExpiresAt: end.Add(time.Hour)})
	if !later.ExpiresAt.Equal(end) {
		t.Errorf("one that was to end later ends at %v", later.ExpiresAt)
	}
	if c := r.mustCreate(credential.Request{ExpiresAt: sooner}); !c.ExpiresAt.Equal(sooner) {
		t.Errorf("one that was to end sooner ends at %v", c.ExpiresAt)
	}
	if c := r.mustCreate(credential.Request{Canary: true}); !c.ExpiresAt.IsZero() {
		t.Errorf("a canary ends at %v", c.ExpiresAt)
	}
	// No chain of rotations gets past an end that somebody set.
	r.advance(89 * 24 * time.Hour)
	next := r.must(later)
	if !next.ExpiresAt.Equal(end.Add(time.Hour)) || !next.NotAfter.Equal(end.Add(time.Hour)) {
		t.Errorf("its successor ends at %v", next.ExpiresAt)
	}
	if _, err := r.itself(next); !errors.Is(err, credential.ErrNotRotatable) {
		t.Errorf("the successor is rotated: %v", err)
	}
	if c, err := r.rotate(later.ID, credential.Request{}); err != nil || !c.ExpiresAt.Equal(r.at.Add(r.policy.MaxAge)) {
		t.Errorf("rotated by somebody it ends at %v, %v", c.ExpiresAt, err)
	}
}

func TestAPolicyEndsOldCredentialsNoSoonerThanItWarns(t *testing.T) {
	at := newClock().at
	p := credential.DefaultPolicy()
	p.MaxAge = 30 * 24 * time.Hour
	const day = 24 * time.Hour
	for name, c := range map[string]struct{ created, expires, want time.Time }{
		"young":                {at.Add(-day), time.Time{}, at.Add(29 * day)},
		"too old already":      {at.Add(-100 * day), time.Time{}, at.Add(7 * day)},
		"ends before":          {at.Add(-day), at.Add(2 * day), at.Add(2 * day)},
		"old, and ends before": {at.Add(-100 * day), at.Add(2 * day), at.Add(2 * day)},
		"old, and ends after":  {at.Add(-100 * day), at.Add(200 * day), at.Add(7 * day)},
		"ended":                {at.Add(-100 * day), at.Add(-day), at.Add(-day)},
	} {
		end, changed := p.Apply(credential.Credential{CreatedAt: c.created, ExpiresAt: c.expires}, at)
		if !end.Equal(c.want) || changed != !c.want.Equal(c.expires) {
			t.Errorf("%s: it ends at %v, %v; want %v", name, end, changed, c.want)
		}
	}
}
