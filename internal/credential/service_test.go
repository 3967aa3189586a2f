package credential_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/credential"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// memory is a credential.Store with one agent.
type memory struct {
	holder  credential.Holder
	all     []credential.Credential
	events  []audit.Event
	now     func() time.Time
	changes int // how often a change was asked for
	// meanwhile happens just before a change.
	meanwhile func()
}

func (m *memory) has(org, agent uuid.UUID) error {
	if org != m.holder.OrganizationID || agent != m.holder.AgentID {
		return fault.New(fault.NotFound, fault.CodeAgentNotFound, "no such agent")
	}
	return nil
}

func (m *memory) live() []credential.Credential {
	var live []credential.Credential
	for _, c := range m.all {
		if c.RevokedAt.IsZero() {
			live = append(live, c)
		}
	}
	return live
}

func (m *memory) Holder(_ context.Context, org, agent uuid.UUID) (credential.Holder, []credential.Credential, error) {
	return m.holder, m.live(), m.has(org, agent)
}

func (m *memory) ChangeCredentials(_ context.Context, org, agent uuid.UUID,
	change func(credential.Holder, []credential.Credential) ([]credential.Credential, audit.Event, error),
) error {
	if err := m.has(org, agent); err != nil {
		return err
	}
	if m.meanwhile != nil {
		m.meanwhile()
	}
	m.changes++
	changed, event, err := change(m.holder, m.live())
	if err != nil {
		return err
	}
	for _, c := range changed {
		if i := slices.IndexFunc(m.all, func(had credential.Credential) bool { return had.ID == c.ID }); i >= 0 {
			m.all[i] = c
		} else {
			m.all = append(m.all, c)
		}
	}
	m.events = append(m.events, event)
	return nil
}

func (m *memory) Credential(_ context.Context, org, agent, id uuid.UUID) (credential.Credential, error) {
	if err := m.has(org, agent); err != nil {
		return credential.Credential{}, err
	}
	for _, c := range m.all {
		if c.ID == id {
			return c, nil
		}
	}
	return credential.Credential{}, fault.New(fault.NotFound, fault.CodeCredentialNotFound, "no such credential")
}

func (m *memory) Credentials(_ context.Context, org, agent uuid.UUID, _ page.Query) (page.Page[credential.Credential], error) {
	newest := slices.Clone(m.all)
	slices.Reverse(newest)
	return page.Page[credential.Credential]{Items: newest}, m.has(org, agent)
}

func (m *memory) SaveVerifier(context.Context, uuid.UUID, credential.Verifier) error { return nil }

// world is one agent, its credentials and a caller.
type world struct {
	*testing.T
	*clock
	store      *memory
	service    *credential.Service
	by         policy.Caller
	org, agent uuid.UUID
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, clock: newClock(), org: uuid.New(), agent: uuid.New()}
	w.store = &memory{now: w.now, holder: credential.Holder{
		AgentID: w.agent, OrganizationID: w.org, Status: "active", Capabilities: scope.New("mail:send"),
	}}
	minter := credential.NewMinter(newHasher(t, credential.HMAC, w.clock, newRoot, secret.Value{}), w.now)
	w.service = credential.NewService(w.store, minter, w.now)
	w.by = policy.Caller{OrganizationID: w.org, Scopes: scope.New(scope.CredentialsWrite), Origin: audit.System("test")}
	return w
}

func (w *world) create(r credential.Request) (credential.Issued, error) {
	return w.service.Create(w.Context(), w.by, w.org, w.agent, r)
}

func (w *world) rotate(id uuid.UUID, r credential.Request) (credential.Issued, error) {
	return w.service.Rotate(w.Context(), w.by, w.org, w.agent, id, r)
}

func (w *world) mustCreate(r credential.Request) credential.Issued {
	w.Helper()
	issued, err := w.create(r)
	if err != nil {
		w.Fatal(err)
	}
	return issued
}

func (w *world) revoke(id uuid.UUID) error {
	return w.service.Revoke(w.Context(), w.by, w.org, w.agent, id)
}

func (w *world) status(id uuid.UUID) credential.Status {
	w.Helper()
	c, err := w.store.Credential(w.Context(), w.org, w.agent, id)
	if err != nil {
		w.Fatal(err)
	}
	return c.Status(w.now())
}

func (w *world) wantEvents(actions ...audit.Action) {
	w.Helper()
	var got []audit.Action
	for _, e := range w.store.events {
		got = append(got, e.Action)
		if e.AgentID != w.agent || e.OrganizationID != w.org || e.Actor != w.by.Actor {
			w.Errorf("%s does not say about whom and by whom", e.Action)
		}
		if strings.Contains(string(e.Encode()), "sidp_") {
			w.Errorf("%s shows a secret", e.Action)
		}
	}
	if !slices.Equal(got, actions) {
		w.Errorf("the events are %v, want %v", got, actions)
	}
}

func TestARequestForACredentialIsChecked(t *testing.T) { // (R3)
	const year = 365 * 24 * time.Hour
	start := newClock().at
	for _, c := range []struct {
		name    string
		request credential.Request
		field   string // empty where the request is right
		rule    string
	}{
		{"nothing said", credential.Request{}, "", ""},
		{"64 characters of label", credential.Request{Label: strings.Repeat("é", 64)}, "", ""},
		{"65 characters of label", credential.Request{Label: strings.Repeat("é", 65)}, "label", "maxLength"},
		{"a label with a line end", credential.Request{Label: "a\nb"}, "label", "pattern"},
		{"a label that is not UTF-8", credential.Request{Label: "a\xff"}, "label", "pattern"},
		{"expires in a moment", credential.Request{ExpiresAt: start.Add(time.Microsecond)}, "", ""},
		{"expires now", credential.Request{ExpiresAt: start}, "expiresAt", "future"},
		{"expired a year ago", credential.Request{ExpiresAt: start.Add(-year)}, "expiresAt", "future"},
		{"expires in five calendar years", credential.Request{ExpiresAt: start.AddDate(5, 0, 0)}, "", ""},
		{"expires after five years", credential.Request{ExpiresAt: start.AddDate(5, 0, 0).Add(time.Second)}, "expiresAt", "maximum"},
		{"an overlap of thirty days", credential.Request{Overlap: 30 * 24 * time.Hour}, "", ""},
		{"a longer overlap", credential.Request{Overlap: 30*24*time.Hour + time.Second}, "overlapSeconds", "maximum"},
		{"a negative overlap", credential.Request{Overlap: -time.Second}, "overlapSeconds", "minimum"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			first := w.mustCreate(credential.Request{})
			_, creating := w.create(c.request)
			_, rotating := w.rotate(first.ID, c.request)
			for does, err := range map[string]error{"Create": creating, "Rotate": rotating} {
				if c.field == "" {
					if err != nil {
						t.Errorf("%s: %v", does, err)
					}
					continue
				}
				if !fault.Is(err, fault.CodeValidation) {
					t.Errorf("%s gave %v, want VALIDATION_ERROR", does, err)
				} else if f := fault.As(err).Fields; len(f) != 1 || f[0].Field != c.field || f[0].Rule != c.rule {
					t.Errorf("%s names %+v, want %s of %s", does, f, c.rule, c.field)
				}
			}
			if c.field != "" && len(w.store.all) != 1 {
				t.Error("a refused request left a credential behind")
			}
		})
	}
}

func TestANewCredentialIsShownWithItsSecretAndListedWithoutIt(t *testing.T) {
	w := newWorld(t)
	until := w.at.Add(time.Hour)
	issued := w.mustCreate(credential.Request{Label: "ci", ExpiresAt: until})
	if issued.Label != "ci" || !issued.ExpiresAt.Equal(until) || issued.AgentID != w.agent || issued.Revision != 1 {
		t.Errorf("the new credential is %+v", issued.Credential)
	}
	if _, err := credential.ParseSecret(issued.Secret.Value().Reveal()); err != nil || issued.KeyID != issued.Secret.KeyID() {
		t.Errorf("the secret does not lead to its credential: %v", err)
	}
	p, err := w.service.List(t.Context(), w.org, w.agent, page.Query{Limit: 1})
	listed := p.Items
	if err != nil || len(listed) != 1 || listed[0].ID != issued.ID {
		t.Fatalf("the list is %v: %v", listed, err)
	}
	w.wantEvents(audit.CredentialCreated)
	for _, at := range []struct {
		after time.Duration
		want  credential.Status
	}{{time.Hour - time.Microsecond, credential.Active}, {time.Hour, credential.Expired}} {
		if got := listed[0].Status(w.at.Add(at.after)); got != at.want {
			t.Errorf("after %v the credential is %s, want %s", at.after, got, at.want)
		}
	}
}

func TestAnAgentHoldsAtMostTwentyLiveCredentials(t *testing.T) {
	w := newWorld(t)
	passing := w.mustCreate(credential.Request{ExpiresAt: w.at.Add(time.Hour)})
	var last credential.Issued
	for range 19 {
		last = w.mustCreate(credential.Request{})
	}
	if _, err := w.create(credential.Request{}); !fault.Is(err, fault.CodeCredential) {
		t.Errorf("the 21st credential: %v", err)
	}
	if _, err := w.rotate(last.ID, credential.Request{}); !fault.Is(err, fault.CodeCredential) {
		t.Errorf("a rotation that would make 21: %v", err)
	}
	if err := w.revoke(last.ID); err != nil {
		t.Fatal(err)
	}
	w.mustCreate(credential.Request{})
	w.advance(time.Hour)
	if got := w.status(passing.ID); got != credential.Expired {
		t.Fatalf("the first credential is %s", got)
	}
	w.mustCreate(credential.Request{})
}

func TestARotatedCredentialLivesUntilTheOverlapEnds(t *testing.T) { // (R3)
	for _, c := range []struct {
		name      string
		expiresIn time.Duration // of the old one, zero for never
		overlap   time.Duration
		livesFor  time.Duration
	}{
		{"overlap", 0, 24 * time.Hour, 24 * time.Hour},
		{"no overlap", 0, 0, 0},
		{"a later expiry is shortened", 48 * time.Hour, 24 * time.Hour, 24 * time.Hour},
		{"an earlier expiry is not prolonged", time.Hour, 24 * time.Hour, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			r := credential.Request{Label: "ci"}
			if c.expiresIn > 0 {
				r.ExpiresAt = w.at.Add(c.expiresIn)
			}
			old := w.mustCreate(r)
			start := w.at
			next, err := w.rotate(old.ID, credential.Request{Overlap: c.overlap})
			if err != nil {
				t.Fatal(err)
			}
			if next.ID == old.ID || next.Secret == old.Secret || next.RotatedFrom != old.ID || next.Label != "ci" || !next.ExpiresAt.IsZero() {
				t.Errorf("the successor is %+v", next.Credential)
			}
			if c.livesFor > 0 {
				w.at = start.Add(c.livesFor - time.Microsecond)
				if got := w.status(old.ID); got != credential.Active {
					t.Errorf("just before its end the old one is %s", got)
				}
			}
			w.at = start.Add(c.livesFor)
			if got := w.status(old.ID); got != credential.Expired {
				t.Errorf("at its end the old one is %s", got)
			}
			if got := w.status(next.ID); got != credential.Active {
				t.Errorf("the successor is %s", got)
			}
			w.wantEvents(audit.CredentialCreated, audit.CredentialRotated)
			if _, err := w.rotate(old.ID, credential.Request{}); !fault.Is(err, fault.CodeCredential) {
				t.Errorf("rotating the expired one: %v", err)
			}
		})
	}
}
