package scope

import (
	"errors"
	"slices"
	"strings"
)

// The product's own management scopes.
const (
	AgentsRead         = "agents:read"
	AgentsWrite        = "agents:write"
	CredentialsWrite   = "credentials:write"
	TokensIntrospect   = "tokens:introspect"
	TokensRevoke       = "tokens:revoke"
	AuditRead          = "audit:read"
	OrganizationsAdmin = "organizations:admin"
)

// Bounds on one capability and on a scope parameter, in bytes and entries.
const (
	MaxLength  = 128
	MaxEntries = 128
)

// ErrMalformed says that a scope parameter does not follow RFC 6749 §3.3 or is
// longer than the product takes.
var ErrMalformed = errors.New("scope must be a list of resource:action names separated by single spaces")

// Set is a set of scopes, sorted and without duplicates.
type Set []string

// New makes a set of the names.
func New(names ...string) Set {
	s := slices.Clone(names)
	slices.Sort(s)
	return Set(slices.Compact(s))
}

// Management gives every management scope.
func Management() Set {
	return New(AgentsRead, AgentsWrite, CredentialsWrite, TokensIntrospect, TokensRevoke, AuditRead, OrganizationsAdmin)
}

// IsManagement reports whether name is a management scope.
func IsManagement(name string) bool {
	switch name {
	case AgentsRead, AgentsWrite, CredentialsWrite, TokensIntrospect, TokensRevoke, AuditRead, OrganizationsAdmin:
		return true
	}
	return false
}

// Parse reads a scope parameter. Repeated names are folded, as their order and
// number mean nothing. It returns ErrMalformed for anything that cannot be a
// list of capabilities.
func Parse(s string) (Set, error) {
	if len(s) > MaxEntries*(MaxLength+1) {
		return nil, ErrMalformed
	}
	names := strings.Split(s, " ")
	if len(names) > MaxEntries {
		return nil, ErrMalformed
	}
	for _, name := range names {
		if !ValidName(name) {
			return nil, ErrMalformed
		}
	}
	return New(names...), nil
}

// ValidName reports whether name is a well-formed capability, `resource:action`
// in lower case.
func ValidName(name string) bool {
	if len(name) > MaxLength {
		return false
	}
	resource, action, ok := strings.Cut(name, ":")
	return ok && validPart(resource) && validPart(action)
}

func validPart(part string) bool {
	for i := range len(part) {
		c := part[i]
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return part != ""
}

// Has reports whether the set holds name.
func (s Set) Has(name string) bool {
	_, found := slices.BinarySearch(s, name)
	return found
}

// Missing gives the members of want that s lacks.
func (s Set) Missing(want Set) Set {
	var missing Set
	for _, name := range want {
		if !s.Has(name) {
			missing = append(missing, name)
		}
	}
	return missing
}

// Managing gives the members that are management scopes.
func (s Set) Managing() Set { return s.keep(IsManagement) }

// Ordinary gives the members that are not management scopes.
func (s Set) Ordinary() Set { return s.keep(func(name string) bool { return !IsManagement(name) }) }

func (s Set) keep(want func(string) bool) Set {
	var kept Set
	for _, name := range s {
		if want(name) {
			kept = append(kept, name)
		}
	}
	return kept
}

// String gives the scope parameter.
func (s Set) String() string { return strings.Join(s, " ") }
