package agent

import (
	"bytes"
	"encoding/json"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/organization"
	"git.sentryagent.ai/sentryagent-idp/internal/printable"
	"git.sentryagent.ai/sentryagent-idp/internal/scope"
)

// Bounds on an agent's fields, in bytes where no other unit is named.
const (
	MaxEmail        = 254
	MaxType         = 64
	MaxVersion      = 64
	MaxOwner        = 128 // characters
	MaxCapabilities = 100 // entries
	MaxMetadata     = 16 << 10
	MaxReason       = 512 // characters
	MaxDepth        = 8   // levels of metadata
	MinTokenTTL     = time.Minute
)

// rules collects what is wrong with the fields of one agent.
type rules struct{ fields []fault.Field }

func (r *rules) require(ok bool, field, rule, message string) {
	if !ok {
		r.fields = append(r.fields, fault.Field{Field: field, Rule: rule, Message: field + " " + message})
	}
}

func (r *rules) err() error {
	if len(r.fields) == 0 {
		return nil
	}
	return fault.InvalidFields(r.fields...)
}

// Validate checks what is to be an agent of org, without making anything, and
// lists all that is wrong (VALIDATION_ERROR).
func (s *Service) Validate(org uuid.UUID, d Draft) error {
	a := d.agent()
	return s.validate(org, &a)
}

func (s *Service) validate(org uuid.UUID, a *Agent) error {
	var r rules
	r.require(validEmail(a.Email), "email", "format", "must be a plain address of at most 254 characters")
	r.kind(a.Type)
	r.version(a.Version)
	r.capabilities(a.Capabilities, org)
	r.owner(a.Owner)
	r.environment(a.DeploymentEnv)
	r.metadata(a.Metadata)
	r.lifetime(a.TokenTTL, s.maxTTL)
	return r.err()
}

// ValidatePatch checks what a patch names, as Validate does. What it would make
// of the agent's metadata shows only when it is applied.
func (s *Service) ValidatePatch(org uuid.UUID, p Patch) error {
	var r rules
	check(p.Type, r.kind)
	check(p.Version, r.version)
	check(p.Capabilities, func(c []string) { r.capabilities(c, org) })
	check(p.Owner, r.owner)
	check(p.DeploymentEnv, r.environment)
	if p.Metadata != nil && !bytes.Equal(bytes.TrimSpace(p.Metadata), []byte("null")) {
		r.metadata(p.Metadata)
	}
	check(p.TokenTTL, func(ttl time.Duration) { r.lifetime(ttl, s.maxTTL) })
	return r.err()
}

func check[T any](value *T, rule func(T)) {
	if value != nil {
		rule(*value)
	}
}

// ValidateReason checks why an agent is moved on (VALIDATION_ERROR).
func (s *Service) ValidateReason(reason string) error {
	r := rules{fields: printable.Check("reason", reason, MaxReason)}
	return r.err()
}

func (r *rules) kind(s string) {
	r.require(ValidType(s), "agentType", "pattern", "must be 1 to 64 lower-case letters, digits, hyphens and underscores, beginning with a letter")
}

func (r *rules) version(s string) {
	r.require(validVersion(s), "version", "pattern", "must be a semantic version of at most 64 characters, such as v1.2.3")
}

func (r *rules) owner(s string) {
	r.require(s != "", "owner", "minLength", "must not be empty")
	r.fields = append(r.fields, printable.Check("owner", s, MaxOwner)...)
}

func (r *rules) environment(s string) {
	r.require(ValidEnvironment(s), "deploymentEnv", "enum", "must be development, staging or production")
}

// ValidEnvironment reports whether s is development, staging or production.
func ValidEnvironment(s string) bool {
	return slices.Contains([]string{"development", "staging", "production"}, s)
}

// lifetime checks an agent's own token lifetime; zero is none.
func (r *rules) lifetime(ttl, most time.Duration) {
	if ttl != 0 {
		r.require(ttl >= MinTokenTTL, "tokenTtlSeconds", "minimum", "must be at least 60")
		r.require(ttl <= most, "tokenTtlSeconds", "maximum", "must be at most "+strconv.Itoa(int(most/time.Second)))
	}
}

func (r *rules) capabilities(c []string, org uuid.UUID) {
	r.require(len(c) > 0, "capabilities", "minItems", "must name at least one capability")
	r.require(len(c) <= MaxCapabilities, "capabilities", "maxItems", "must name at most 100 capabilities")
	if len(c) > MaxCapabilities {
		return
	}
	for i, name := range c {
		r.require(scope.ValidName(name), "capabilities["+strconv.Itoa(i)+"]", "pattern", "must be resource:action in lower case, at most 128 characters")
	}
	r.require(len(scope.New(c...)) == len(c), "capabilities", "unique", "must not repeat a capability")
	r.require(org == organization.DefaultID() || !slices.Contains(c, scope.OrganizationsAdmin), "capabilities", "enum",
		"must not name "+scope.OrganizationsAdmin+" outside the operator's organization")
}

func (r *rules) metadata(m json.RawMessage) {
	r.require(len(m) <= MaxMetadata, "metadata", "size", "must be at most 16 KiB of JSON")
	if len(m) > MaxMetadata {
		return
	}
	trimmed := bytes.TrimSpace(m)
	r.require(json.Valid(m) && len(trimmed) > 0 && trimmed[0] == '{', "metadata", "type", "must be a JSON object")
	r.require(depth(m) <= MaxDepth, "metadata", "depth", "must be nested at most 8 levels deep")
}

// depth counts the levels of a JSON text, ignoring brackets inside strings.
func depth(m []byte) int {
	deepest, level, inString := 0, 0, false
	for i := 0; i < len(m); i++ {
		switch c := m[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}

func validEmail(s string) bool {
	if len(s) > MaxEmail || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return false
	}
	parsed, err := mail.ParseAddress(s)
	if err != nil || parsed.Name != "" || parsed.Address != s {
		return false
	}
	local, domain, ok := strings.Cut(s, "@")
	return ok && len(local) <= 64 && validDomain(domain)
}

// validDomain follows RFC 1123 §2.1; one label alone is enough.
func validDomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, notIdentifier) || strings.Trim(label, "-") != label {
			return false
		}
	}
	return true
}

// lowerEmail lowers ASCII letters alone, as others may become one of them, such
// as the Kelvin sign.
func lowerEmail(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// ValidType reports whether s is a kind of agent: 1 to 64 lower-case letters, digits,
// hyphens and underscores, beginning with a letter.
func ValidType(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z':
		case i > 0 && ('0' <= c && c <= '9' || c == '-' || c == '_'):
		default:
			return false
		}
	}
	return s != "" && len(s) <= MaxType
}

// validVersion follows semver.org 2.0.0 §2 to §10, with an optional leading v.
func validVersion(s string) bool {
	if len(s) > MaxVersion {
		return false
	}
	s = strings.TrimPrefix(s, "v")
	s, build, hasBuild := strings.Cut(s, "+")
	if hasBuild && !identifiers(build, false) {
		return false
	}
	s, pre, hasPre := strings.Cut(s, "-")
	if hasPre && !identifiers(pre, true) {
		return false
	}
	core := strings.Split(s, ".")
	return len(core) == 3 && !slices.ContainsFunc(core, func(n string) bool { return !numeric(n) || leadingZero(n) })
}

func identifiers(s string, noLeadingZero bool) bool {
	for id := range strings.SplitSeq(s, ".") {
		if id == "" || strings.ContainsFunc(id, notIdentifier) {
			return false
		}
		if noLeadingZero && numeric(id) && leadingZero(id) {
			return false
		}
	}
	return true
}

// notIdentifier reports whether r is neither a letter, a digit nor a hyphen.
func notIdentifier(r rune) bool {
	return r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

func numeric(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

func leadingZero(s string) bool { return len(s) > 1 && s[0] == '0' }
