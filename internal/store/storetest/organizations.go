package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
)

// errChange is what a change fails with for a reason of its own.
var errChange = errors.New("the change will not be made")

func organizationTests() []test {
	return []test{
		{"the operator's organization is there", func(b *bench) {
			o, err := b.store.Organization(b.Context(), organization.DefaultID())
			if err != nil || o.Name != organization.DefaultName || o.Revision != 1 {
				b.Errorf("the default organization reads %+v, %v", o, err)
			}
		}},
		{"reads back what was created", organizationReadsBack},
		{"a taken name is a conflict", organizationNameTaken},
		{"an unknown id is not found", organizationUnknown},
		{"an update writes the change and its event", organizationUpdated},
		{"a refused update writes nothing", organizationUpdateRefused},
		{"lists page by page, newest first", organizationsListed},
	}
}

func organizationReadsBack(b *bench) {
	for i, want := range []organization.Organization{
		{Name: "limited", DisplayName: "Ünï 組織", MaxAgents: new(int64(7)), TokenRatePerMinute: new(int64(600)), AuditRetentionDays: new(int64(365)), AuditIntrospection: true, LegalHold: true},
		{Name: "free"},
	} {
		want.ID, want.CreatedAt, want.UpdatedAt, want.Revision = uuid.New(), b.now(), b.now(), int64(i+1)
		before, e := b.log(), b.event(audit.OrganizationCreated, want.ID, uuid.Nil)
		b.must("creating", b.store.CreateOrganization(b.Context(), want, e))
		got, err := b.store.Organization(b.Context(), want.ID)
		b.must("reading", err)
		wantSame(b, "the organization", got, want)
		b.wantNext(before, e)
	}
}

func organizationNameTaken(b *bench) {
	b.writesNothing("a taken name", func() {
		now := b.now()
		o := organization.Organization{ID: uuid.New(), Name: "acme", CreatedAt: now, UpdatedAt: now, Revision: 1}
		err := b.store.CreateOrganization(b.Context(), o, b.event(audit.OrganizationCreated, b.org, uuid.Nil))
		b.wantFault("a taken name", err, fault.CodeConflict)
	})
}

func organizationUnknown(b *bench) {
	_, err := b.store.Organization(b.Context(), uuid.New())
	b.wantFault("reading an unknown organization", err, fault.CodeNotFound)
	b.writesNothing("updating an unknown organization", func() {
		_, err := b.store.UpdateOrganization(b.Context(), uuid.New(), func(*organization.Organization) (audit.Event, error) {
			b.Error("the change was asked for")
			return audit.Event{}, nil
		})
		b.wantFault("updating an unknown organization", err, fault.CodeNotFound)
	})
	b.writesNothing("an agent of an unknown organization", func() {
		a := b.draft()
		a.OrganizationID = uuid.New()
		err := b.store.CreateAgent(b.Context(), a, b.credential(a), b.event(audit.AgentCreated, b.org, a.ID))
		b.wantFault("an agent of an unknown organization", err, fault.CodeNotFound)
	})
}

func organizationUpdated(b *bench) {
	want := b.organization("globex", new(int64(3)))
	for _, change := range []func(*organization.Organization){
		func(o *organization.Organization) {
			o.DisplayName, o.MaxAgents, o.TokenRatePerMinute, o.AuditRetentionDays, o.AuditIntrospection, o.LegalHold = "Новое", nil, new(int64(9)), new(int64(30)), true, true
		},
		func(o *organization.Organization) {
			o.DisplayName, o.MaxAgents, o.TokenRatePerMinute, o.AuditRetentionDays, o.AuditIntrospection, o.LegalHold = "", new(int64(1)), nil, nil, false, false
		},
	} {
		before, e := b.log(), b.event(audit.OrganizationUpdated, want.ID, uuid.Nil)
		change(&want)
		want.UpdatedAt = e.Time
		want.Revision++
		given, err := b.store.UpdateOrganization(b.Context(), want.ID, func(o *organization.Organization) (audit.Event, error) {
			change(o)
			o.UpdatedAt = e.Time
			return e, nil
		})
		b.must("updating", err)
		wantSame(b, "the organization given", given, want)
		got, err := b.store.Organization(b.Context(), want.ID)
		b.must("reading", err)
		wantSame(b, "the organization kept", got, want)
		b.wantNext(before, e)
	}
}

func organizationUpdateRefused(b *bench) {
	b.writesNothing("a refused update", func() {
		_, err := b.store.UpdateOrganization(b.Context(), b.org, func(o *organization.Organization) (audit.Event, error) {
			o.DisplayName = "never"
			return audit.Event{}, errChange
		})
		if !errors.Is(err, errChange) {
			b.Errorf("the update gave %v, want the error of the change", err)
		}
	})
}

func organizationsListed(b *bench) {
	same := b.now()
	for i := range 7 {
		o := organization.Organization{ID: uuid.New(), Name: fmt.Sprintf("org-%d", i), CreatedAt: same.Add(time.Duration(i/3) * time.Microsecond), UpdatedAt: same, Revision: 1}
		b.must("creating", b.store.CreateOrganization(b.Context(), o, b.event(audit.OrganizationCreated, o.ID, uuid.Nil)))
	}
	var want []organization.Organization
	for _, limit := range []int{page.MaxLimit, 9, 8, 4, 2, 1} {
		got := walk(b, limit, func(q page.Query) (page.Page[organization.Organization], error) {
			return b.store.Organizations(b.Context(), q)
		})
		if want == nil {
			want = got
			if len(got) != 9 {
				b.Errorf("%d organizations are listed, want 9", len(got))
			}
			if !slices.IsSortedFunc(got, func(x, y organization.Organization) int { return newer(x.CreatedAt, x.ID, y.CreatedAt, y.ID) }) {
				b.Errorf("the organizations are not listed newest first: %+v", got)
			}
		}
		wantSame(b, fmt.Sprintf("pages of %d", limit), got, want)
	}
}

// newer orders rows as every list does: by time, then id, both descending.
func newer(t1 time.Time, id1 uuid.UUID, t2 time.Time, id2 uuid.UUID) int {
	if c := t2.Compare(t1); c != 0 {
		return c
	}
	return strings.Compare(id2.String(), id1.String())
}
