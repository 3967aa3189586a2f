package organization

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/page"
	"git.sentryagent.ai/sentryagent-idp/internal/printable"
)

// MaxDisplayName bounds what an organization is shown as, in characters.
const MaxDisplayName = 128

// DefaultName is the name of the operator's organization.
const DefaultName = "default"

// DefaultID is the id of the operator's organization, the same in every
// installation, as the first migration makes it.
func DefaultID() uuid.UUID {
	return uuid.UUID{6: 0x40, 8: 0x80, 15: 1} // 00000000-0000-4000-8000-000000000001
}

// Organization is a tenant. A nil limit means that there is none.
type Organization struct {
	ID                 uuid.UUID
	Name               string
	DisplayName        string
	MaxAgents          *int64
	TokenRatePerMinute *int64
	AuditRetentionDays *int64
	AuditIntrospection bool
	// LegalHold says that no event of the organization is dropped, however old.
	LegalHold bool
	CreatedAt time.Time
	UpdatedAt time.Time
	Revision  int64
}

// ErrUnchanged is what a change returns when there is nothing to write.
var ErrUnchanged = errors.New("nothing has changed")

// Store keeps the organizations.
type Store interface {
	// CreateOrganization stores o and the event in one transaction; CONFLICT
	// where the name is taken.
	CreateOrganization(ctx context.Context, o Organization, event audit.Event) error
	// Organization gives one, or NOT_FOUND.
	Organization(ctx context.Context, id uuid.UUID) (Organization, error)
	// UpdateOrganization reads, changes and writes one organization and the event
	// in one transaction. An error of change is returned and nothing is written,
	// but ErrUnchanged gives the organization as it is.
	UpdateOrganization(ctx context.Context, id uuid.UUID, change func(*Organization) (audit.Event, error)) (Organization, error)
	// Organizations lists all, newest first.
	Organizations(ctx context.Context, q page.Query) (page.Page[Organization], error)
}

// Draft is what a caller says of an organization that is to be made.
type Draft struct {
	Name        string
	DisplayName string
	Limits
}

// Limits are an organization's settings.
type Limits struct {
	MaxAgents          *int64
	TokenRatePerMinute *int64
	AuditRetentionDays *int64
	AuditIntrospection bool
	LegalHold          bool
}

// Patch changes the members that are set; a set pointer to nil removes a limit.
type Patch struct {
	DisplayName        *string
	MaxAgents          **int64
	TokenRatePerMinute **int64
	AuditRetentionDays **int64
	AuditIntrospection *bool
	LegalHold          *bool
	// IfRevision holds the revisions the caller accepts, none where it does not care.
	IfRevision []int64
}

// Service makes and changes organizations.
type Service struct {
	store Store
	now   func() time.Time
}

// NewService makes the service.
func NewService(store Store, now func() time.Time) *Service { return &Service{store: store, now: now} }

// Create makes an organization. It fails with VALIDATION_ERROR or CONFLICT.
func (s *Service) Create(ctx context.Context, by audit.Origin, d Draft) (Organization, error) {
	now := s.now().UTC().Truncate(time.Microsecond)
	o := d.organization()
	if err := o.validate(); err != nil {
		return Organization{}, err
	}
	o.ID, o.CreatedAt, o.UpdatedAt, o.Revision = uuid.New(), now, now, 1
	details := audit.Details{}.String("name", o.Name)
	if o.LegalHold {
		details = details.Bool("legalHold", true)
	}
	event := by.Event(now, o.ID, audit.OrganizationCreated, o.target()).With(details)
	if err := s.store.CreateOrganization(ctx, o, event); err != nil {
		return Organization{}, err
	}
	return o, nil
}

func (d Draft) organization() Organization {
	return Organization{
		Name: d.Name, DisplayName: d.DisplayName, MaxAgents: d.MaxAgents, TokenRatePerMinute: d.TokenRatePerMinute,
		AuditRetentionDays: d.AuditRetentionDays, AuditIntrospection: d.AuditIntrospection, LegalHold: d.LegalHold,
	}
}

// Validate checks a draft without making anything (VALIDATION_ERROR).
func (s *Service) Validate(d Draft) error { return d.organization().validate() }

// ValidatePatch checks what a patch names (VALIDATION_ERROR).
func (s *Service) ValidatePatch(p Patch) error {
	o := Organization{Name: DefaultName} // all in order, so that only the patch can be wrong
	p.apply(&o)
	return o.validate()
}

// Get gives one organization, or NOT_FOUND.
func (s *Service) Get(ctx context.Context, id uuid.UUID) (Organization, error) {
	return s.store.Organization(ctx, id)
}

// List gives a page of all organizations, newest first.
func (s *Service) List(ctx context.Context, q page.Query) (page.Page[Organization], error) {
	return s.store.Organizations(ctx, q)
}

// Update applies a patch. It fails with VALIDATION_ERROR, NOT_FOUND or
// PRECONDITION_FAILED.
func (s *Service) Update(ctx context.Context, by audit.Origin, id uuid.UUID, p Patch) (Organization, error) {
	if err := s.ValidatePatch(p); err != nil {
		return Organization{}, err
	}
	return s.store.UpdateOrganization(ctx, id, func(o *Organization) (audit.Event, error) {
		if len(p.IfRevision) > 0 && !slices.Contains(p.IfRevision, o.Revision) {
			return audit.Event{}, fault.New(fault.PreconditionFailed, fault.CodePreconditionFailed, "the organization has changed since it was read")
		}
		changed := p.apply(o)
		if len(changed) == 0 {
			return audit.Event{}, ErrUnchanged
		}
		o.UpdatedAt = s.now().UTC().Truncate(time.Microsecond)
		details := audit.Details{}.Strings("changed", changed)
		if slices.Contains(changed, "legalHold") { // whether it was set or lifted is what one wants to know later
			details = details.Bool("legalHold", o.LegalHold)
		}
		return by.Event(o.UpdatedAt, o.ID, audit.OrganizationUpdated, o.target()).With(details), nil
	})
}

// apply changes the organization and names the members whose value is now another.
func (p Patch) apply(o *Organization) (changed []string) {
	if p.DisplayName != nil && *p.DisplayName != o.DisplayName {
		o.DisplayName = *p.DisplayName
		changed = append(changed, "displayName")
	}
	limit := func(name string, to, value **int64) {
		if to != nil && !sameLimit(*to, *value) {
			*value = *to
			changed = append(changed, name)
		}
	}
	limit("maxAgents", p.MaxAgents, &o.MaxAgents)
	limit("tokenRatePerMinute", p.TokenRatePerMinute, &o.TokenRatePerMinute)
	limit("auditRetentionDays", p.AuditRetentionDays, &o.AuditRetentionDays)
	if p.AuditIntrospection != nil && *p.AuditIntrospection != o.AuditIntrospection {
		o.AuditIntrospection = *p.AuditIntrospection
		changed = append(changed, "auditIntrospection")
	}
	if p.LegalHold != nil && *p.LegalHold != o.LegalHold {
		o.LegalHold = *p.LegalHold
		changed = append(changed, "legalHold")
	}
	return changed
}

func sameLimit(a, b *int64) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func (o Organization) target() audit.Target {
	return audit.Target{Type: audit.TypeOrganization, ID: o.ID.String()}
}

func (o Organization) validate() error {
	var fields []fault.Field
	if !validName(o.Name) {
		fields = append(fields, fault.Field{
			Field: "name", Rule: "pattern",
			Message: "name must be 1 to 63 lower-case letters, digits and inner hyphens",
		})
	}
	fields = append(fields, printable.Check("displayName", o.DisplayName, MaxDisplayName)...)
	for _, limit := range []struct {
		name  string
		value *int64
		max   int64
	}{{"maxAgents", o.MaxAgents, 100_000_000}, {"tokenRatePerMinute", o.TokenRatePerMinute, 1_000_000_000}, {"auditRetentionDays", o.AuditRetentionDays, 36_500}} {
		switch {
		case limit.value == nil:
		case *limit.value < 1:
			fields = append(fields, fault.Field{Field: limit.name, Rule: "minimum", Message: limit.name + " must be at least 1"})
		case *limit.value > limit.max:
			fields = append(fields, fault.Field{Field: limit.name, Rule: "maximum", Message: limit.name + " must be at most " + strconv.FormatInt(limit.max, 10)})
		}
	}
	if len(fields) > 0 {
		return fault.InvalidFields(fields...)
	}
	return nil
}

func validName(name string) bool {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
		case c == '-' && i > 0 && i < len(name)-1:
		default:
			return false
		}
	}
	return name != "" && len(name) <= 63
}
