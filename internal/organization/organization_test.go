package organization_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

// memory is an organization.Store of one process.
type memory struct {
	all    []organization.Organization
	events []audit.Event
}

func (m *memory) CreateOrganization(_ context.Context, o organization.Organization, event audit.Event) error {
	for _, had := range m.all {
		if had.Name == o.Name {
			return fault.New(fault.Conflict, fault.CodeConflict, "the name is taken")
		}
	}
	m.all = append(m.all, o)
	m.events = append(m.events, event)
	return nil
}

func (m *memory) find(id uuid.UUID) (*organization.Organization, error) {
	for i := range m.all {
		if m.all[i].ID == id {
			return &m.all[i], nil
		}
	}
	return nil, fault.New(fault.NotFound, fault.CodeNotFound, "no such organization")
}

func (m *memory) Organization(_ context.Context, id uuid.UUID) (organization.Organization, error) {
	o, err := m.find(id)
	if err != nil {
		return organization.Organization{}, err
	}
	return *o, nil
}

func (m *memory) UpdateOrganization(_ context.Context, id uuid.UUID, change func(*organization.Organization) (audit.Event, error)) (organization.Organization, error) {
	stored, err := m.find(id)
	if err != nil {
		return organization.Organization{}, err
	}
	o := *stored
	event, err := change(&o)
	if errors.Is(err, organization.ErrUnchanged) {
		return *stored, nil
	}
	if err != nil {
		return organization.Organization{}, err
	}
	o.Revision++
	*stored = o
	m.events = append(m.events, event)
	return o, nil
}

func (m *memory) Organizations(context.Context, page.Query) (page.Page[organization.Organization], error) {
	newest := slices.Clone(m.all)
	slices.Reverse(newest)
	return page.Page[organization.Organization]{Items: newest}, nil
}

// world is the tenants of a test and its clock.
type world struct {
	*testing.T
	at      time.Time
	store   *memory
	service *organization.Service
	by      audit.Origin
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, at: time.Date(2026, 3, 1, 12, 0, 0, 123_456_789, time.UTC), store: &memory{}, by: audit.System("test")}
	w.service = organization.NewService(w.store, func() time.Time { return w.at })
	return w
}

func (w *world) create(d organization.Draft) organization.Organization {
	w.Helper()
	o, err := w.service.Create(w.Context(), w.by, d)
	if err != nil {
		w.Fatal(err)
	}
	return o
}

func wantField(t *testing.T, err error, field, rule string) {
	t.Helper()
	if field == "" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	if !fault.Is(err, fault.CodeValidation) {
		t.Errorf("got %v, want VALIDATION_ERROR of %s", err, field)
	} else if f := fault.As(err).Fields; len(f) != 1 || f[0].Field != field || f[0].Rule != rule {
		t.Errorf("%+v is named, want %s of %s", f, rule, field)
	}
}

func TestTheOperatorsOrganizationHasTheIDOfTheMigration(t *testing.T) {
	if got := organization.DefaultID().String(); got != "00000000-0000-4000-8000-000000000001" {
		t.Errorf("it is %s", got)
	}
}

func TestWhatIsSaidOfANewOrganizationIsChecked(t *testing.T) {
	limits := func(set func(*organization.Limits)) organization.Draft {
		d := organization.Draft{Name: "acme"}
		set(&d.Limits)
		return d
	}
	for _, c := range []struct {
		name        string
		draft       organization.Draft
		field, rule string
	}{
		{"one letter", organization.Draft{Name: "a"}, "", ""},
		{"digits and hyphens", organization.Draft{Name: "4-acme--2"}, "", ""},
		{"63 letters", organization.Draft{Name: strings.Repeat("a", 63)}, "", ""},
		{"no name", organization.Draft{}, "name", "pattern"},
		{"64 letters", organization.Draft{Name: strings.Repeat("a", 64)}, "name", "pattern"},
		{"upper case", organization.Draft{Name: "Acme"}, "name", "pattern"},
		{"a hyphen first", organization.Draft{Name: "-acme"}, "name", "pattern"},
		{"a hyphen last", organization.Draft{Name: "acme-"}, "name", "pattern"},
		{"a hyphen alone", organization.Draft{Name: "-"}, "name", "pattern"},
		{"a dot", organization.Draft{Name: "acme.example"}, "name", "pattern"},
		{"a space", organization.Draft{Name: "acme inc"}, "name", "pattern"},
		{"not ASCII", organization.Draft{Name: "açme"}, "name", "pattern"},
		{"128 characters to display", organization.Draft{Name: "acme", DisplayName: strings.Repeat("é", 128)}, "", ""},
		{"129 characters to display", organization.Draft{Name: "acme", DisplayName: strings.Repeat("é", 129)}, "displayName", "maxLength"},
		{"not UTF-8 to display", organization.Draft{Name: "acme", DisplayName: "Acme\xff"}, "displayName", "pattern"},
		{"a line end to display", organization.Draft{Name: "acme", DisplayName: "Acme\nInc"}, "displayName", "pattern"},
		{"one agent", limits(func(l *organization.Limits) { l.MaxAgents = new(int64(1)) }), "", ""},
		{"no agents", limits(func(l *organization.Limits) { l.MaxAgents = new(int64(0)) }), "maxAgents", "minimum"},
		{"the most agents", limits(func(l *organization.Limits) { l.MaxAgents = new(int64(100_000_000)) }), "", ""},
		{"more agents", limits(func(l *organization.Limits) { l.MaxAgents = new(int64(100_000_001)) }), "maxAgents", "maximum"},
		{"one token", limits(func(l *organization.Limits) { l.TokenRatePerMinute = new(int64(1)) }), "", ""},
		{"a negative rate", limits(func(l *organization.Limits) { l.TokenRatePerMinute = new(int64(-1)) }), "tokenRatePerMinute", "minimum"},
		{"the highest rate", limits(func(l *organization.Limits) { l.TokenRatePerMinute = new(int64(1_000_000_000)) }), "", ""},
		{"a higher rate", limits(func(l *organization.Limits) { l.TokenRatePerMinute = new(int64(1_000_000_001)) }), "tokenRatePerMinute", "maximum"},
		{"no day of audit", limits(func(l *organization.Limits) { l.AuditRetentionDays = new(int64(0)) }), "auditRetentionDays", "minimum"},
		{"a century of audit", limits(func(l *organization.Limits) { l.AuditRetentionDays = new(int64(36_500)) }), "", ""},
		{"a day more", limits(func(l *organization.Limits) { l.AuditRetentionDays = new(int64(36_501)) }), "auditRetentionDays", "maximum"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			_, err := w.service.Create(t.Context(), w.by, c.draft)
			wantField(t, err, c.field, c.rule)
			if (err == nil) != (len(w.store.all) == 1) || len(w.store.events) != len(w.store.all) {
				t.Errorf("%d organizations and %d events were written", len(w.store.all), len(w.store.events))
			}
		})
	}
}

func TestAllThatIsWrongWithAnOrganizationIsNamedAtOnce(t *testing.T) { // (R32)
	_, err := newWorld(t).service.Create(t.Context(), audit.Origin{}, organization.Draft{
		DisplayName: "\x00", Limits: organization.Limits{MaxAgents: new(int64(0)), TokenRatePerMinute: new(int64(0)), AuditRetentionDays: new(int64(0))},
	})
	if !fault.Is(err, fault.CodeValidation) || len(fault.As(err).Fields) != 5 {
		t.Errorf("got %+v", fault.As(err))
	}
}

func TestANewOrganizationIsThereAsItWasSaid(t *testing.T) {
	w := newWorld(t)
	o := w.create(organization.Draft{Name: "acme", DisplayName: "Acme, Inc.", Limits: organization.Limits{MaxAgents: new(int64(5)), AuditIntrospection: true}})
	if o.Name != "acme" || o.DisplayName != "Acme, Inc." || *o.MaxAgents != 5 || o.TokenRatePerMinute != nil || o.AuditRetentionDays != nil || !o.AuditIntrospection {
		t.Errorf("the new organization is %+v", o)
	}
	if now := w.at.Truncate(time.Microsecond); !o.CreatedAt.Equal(now) || !o.UpdatedAt.Equal(now) || o.Revision != 1 {
		t.Errorf("created %v, updated %v, revision %d", o.CreatedAt, o.UpdatedAt, o.Revision)
	}
	if got, err := w.service.Get(t.Context(), o.ID); err != nil || got != o {
		t.Errorf("reading it gave %+v, %v", got, err)
	}
	if e := w.store.events[0]; e.Action != audit.OrganizationCreated || e.OrganizationID != o.ID || e.Target.ID != o.ID.String() || e.Actor != w.by.Actor {
		t.Errorf("the event is %+v", e)
	}
	if _, err := w.service.Create(t.Context(), w.by, organization.Draft{Name: "acme"}); !fault.Is(err, fault.CodeConflict) {
		t.Errorf("the same name again: %v", err)
	}
	second := w.create(organization.Draft{Name: "second"})
	if all, err := w.service.List(t.Context(), page.Query{}); err != nil || len(all.Items) != 2 || all.Items[0].ID != second.ID {
		t.Errorf("the list is %+v, %v", all, err)
	}
}

func TestAPatchChangesWhatItNamesAndTheRevision(t *testing.T) {
	w := newWorld(t)
	id := w.create(organization.Draft{Name: "acme", Limits: organization.Limits{MaxAgents: new(int64(5))}}).ID
	none := (*int64)(nil)
	for _, c := range []struct {
		name  string
		patch organization.Patch
		apply func(*organization.Organization)
	}{
		{"displayName", organization.Patch{DisplayName: new("Acme")}, func(o *organization.Organization) { o.DisplayName = "Acme" }},
		{"maxAgents", organization.Patch{MaxAgents: new(new(int64(9)))}, func(o *organization.Organization) { o.MaxAgents = new(int64(9)) }},
		{"maxAgents", organization.Patch{MaxAgents: &none}, func(o *organization.Organization) { o.MaxAgents = nil }},
		{"tokenRatePerMinute", organization.Patch{TokenRatePerMinute: new(new(int64(60)))}, func(o *organization.Organization) { o.TokenRatePerMinute = new(int64(60)) }},
		{"auditRetentionDays", organization.Patch{AuditRetentionDays: new(new(int64(90)))}, func(o *organization.Organization) { o.AuditRetentionDays = new(int64(90)) }},
		{"auditIntrospection", organization.Patch{AuditIntrospection: new(true)}, func(o *organization.Organization) { o.AuditIntrospection = true }},
		{"legalHold", organization.Patch{LegalHold: new(true)}, func(o *organization.Organization) { o.LegalHold = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, err := w.service.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			w.at = w.at.Add(time.Minute)
			c.patch.IfRevision = []int64{7, want.Revision}
			c.apply(&want)
			want.Revision++
			want.UpdatedAt = w.at.Truncate(time.Microsecond)
			got, err := w.service.Update(t.Context(), w.by, id, c.patch)
			if err != nil {
				t.Fatal(err)
			}
			gotJSON, _ := json.Marshal(got)
			if wantJSON, _ := json.Marshal(want); string(gotJSON) != string(wantJSON) {
				t.Errorf("got  %s\nwant %s", gotJSON, wantJSON)
			}
			e := w.store.events[len(w.store.events)-1]
			held := map[bool]string{true: `,"legalHold":true`}[c.name == "legalHold"]
			if want := `{"changed":["` + c.name + `"]` + held + `}`; e.Action != audit.OrganizationUpdated || string(e.Details.JSON()) != want {
				t.Errorf("the event %s tells %s, want %s", e.Action, e.Details.JSON(), want)
			}
		})
	}
}

func TestAPatchThatChangesNothingWritesNothing(t *testing.T) {
	w := newWorld(t)
	o := w.create(organization.Draft{Name: "acme", DisplayName: "Acme", Limits: organization.Limits{MaxAgents: new(int64(5)), AuditIntrospection: true}})
	w.at = w.at.Add(time.Hour)
	none := (*int64)(nil)
	for name, p := range map[string]organization.Patch{
		"empty": {},
		"the same values": {
			DisplayName: new("Acme"), MaxAgents: new(new(int64(5))), TokenRatePerMinute: &none, AuditRetentionDays: &none,
			AuditIntrospection: new(true), IfRevision: []int64{1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := w.service.Update(t.Context(), w.by, o.ID, p); err != nil || got != o || len(w.store.events) != 1 {
				t.Errorf("got %+v, %d events, %v", got, len(w.store.events), err)
			}
		})
	}
	got, err := w.service.Update(t.Context(), w.by, o.ID, organization.Patch{DisplayName: new("Acme"), MaxAgents: new(new(int64(6)))})
	if want := `{"changed":["maxAgents"]}`; err != nil || got.Revision != 2 || string(w.store.events[1].Details.JSON()) != want {
		t.Errorf("revision %d, the events are %+v, %v", got.Revision, w.store.events, err)
	}
}

func TestARefusedPatchLeavesTheOrganizationAsItWas(t *testing.T) {
	w := newWorld(t)
	o := w.create(organization.Draft{Name: "acme", DisplayName: "Acme"})
	for name, c := range map[string]struct {
		id    uuid.UUID
		patch organization.Patch
		want  fault.Code
	}{
		"a stale revision":                          {o.ID, organization.Patch{DisplayName: new("b"), IfRevision: []int64{7}}, fault.CodePreconditionFailed},
		"an invalid limit":                          {o.ID, organization.Patch{DisplayName: new("b"), MaxAgents: new(new(int64(0)))}, fault.CodeValidation},
		"an invalid name":                           {o.ID, organization.Patch{DisplayName: new("b\n")}, fault.CodeValidation},
		"an invalid limit and a stale revision":     {o.ID, organization.Patch{MaxAgents: new(new(int64(0))), IfRevision: []int64{7}}, fault.CodeValidation},
		"an invalid limit and no such organization": {uuid.New(), organization.Patch{MaxAgents: new(new(int64(0)))}, fault.CodeValidation},
		"no such organization":                      {uuid.New(), organization.Patch{DisplayName: new("b")}, fault.CodeNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := w.service.Update(t.Context(), w.by, c.id, c.patch); !fault.Is(err, c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if got, err := w.service.Get(t.Context(), o.ID); err != nil || got != o || len(w.store.events) != 1 {
				t.Errorf("it became %+v, with %d events, %v", got, len(w.store.events), err)
			}
		})
	}
}
