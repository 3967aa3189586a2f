package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/policy"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// errForeign answers who names an organization that they may not act in: that it
// exists is not theirs to know.
var errForeign = fault.New(fault.NotFound, fault.CodeNotFound, "there is no such organization")

// findings collects every field of a request that is wrong, in its path, query or
// body, so that a caller learns of all at once.
type findings struct{ fields []fault.Field }

func (f *findings) wrong(field, rule, message string) {
	f.fields = append(f.fields, fault.Field{Field: field, Rule: rule, Message: field + " " + message})
}

// add adds the fields that the domain finds wrong and that have not been named yet.
func (f *findings) add(err error) {
	refused := fault.As(err)
	if refused == nil {
		return
	}
	named := slices.Clone(f.fields)
	for _, field := range refused.Fields {
		if !slices.ContainsFunc(named, func(have fault.Field) bool { return have.Field == field.Field }) {
			f.fields = append(f.fields, field)
		}
	}
}

// call is a request whose caller is known.
type call struct {
	*findings
	w     http.ResponseWriter
	r     *http.Request
	by    policy.Caller
	query *query
	body  *object // nil until it is read
	// named is the organization the request is to be about. It is the tenant once
	// accept found that the caller may act there.
	named, tenant uuid.UUID
	organizations *organization.Service
}

// id gives a path parameter that must be a UUID.
func (c *call) id(name string) uuid.UUID {
	id, ok := parseID(c.r.PathValue(name))
	if !ok {
		c.wrong(name, "uuid", "must be a UUID")
	}
	return id
}

// object reads the body, as readObject does.
func (c *call) object(optional bool, mediaTypes ...string) (*object, error) {
	o, err := readObject(c.w, c.r, optional, mediaTypes...)
	if f := fault.As(err); f != nil && f.Kind == fault.Invalid {
		c.fields = append(c.fields, f.Fields...)
		return nil, c.refusal()
	}
	if err != nil {
		return nil, err
	}
	o.findings, c.body = c.findings, o
	return o, nil
}

// accept ends the reading of a request. It refuses it for all that is wrong with
// it, and only then for an organization that is not there, as 400 comes before
// 404. The services check their rules before they read anything; where a request
// is refused earlier, domain names what they would.
func (c *call) accept(ctx context.Context, domain func() error) error {
	if c.refusal() == nil && c.named == c.by.OrganizationID {
		c.tenant = c.named
		return nil
	}
	if domain != nil {
		c.add(domain())
	}
	if err := c.refusal(); err != nil {
		return err
	}
	return c.reach(ctx)
}

// refusal names all that has been found wrong so far, parameters and fields that
// nobody asked for among it; nil where there is nothing.
func (c *call) refusal() error {
	c.query.unknown()
	if c.body != nil {
		c.body.unknown()
	}
	if len(c.fields) > 0 {
		return fault.InvalidFields(c.fields...)
	}
	return nil
}

// reach makes another organization than the caller's own the tenant, for who may
// act there.
func (c *call) reach(ctx context.Context) error {
	if c.by.OrganizationID != organization.DefaultID() || !c.by.Scopes.Has(scope.OrganizationsAdmin) {
		return errForeign
	}
	if _, err := c.organizations.Get(ctx, c.named); err != nil {
		return err
	}
	c.tenant = c.named
	return nil
}

// etag names a revision of what it stands for.
func etag(revision int64) string { return `"` + strconv.FormatInt(revision, 10) + `"` }

// ifMatch gives the revisions that the caller accepts (RFC 9110 §13.1.1), none
// where it names none or any.
func (c *call) ifMatch() []int64 {
	lines := c.r.Header.Values("If-Match")
	list := strings.TrimSpace(strings.Join(lines, ","))
	if len(lines) == 0 || list == "*" {
		return nil
	}
	var revisions []int64
	for tag := range strings.SplitSeq(list, ",") {
		tag = strings.TrimSpace(tag)
		revision, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64)
		if err != nil || tag != etag(revision) {
			revision = 0 // no revision: weak, or never given out, it matches nothing
		}
		revisions = append(revisions, revision)
	}
	return revisions
}
