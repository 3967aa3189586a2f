package fault

import (
	"errors"
	"time"
)

// Kind says what sort of failure happened; an edge maps it to a status.
type Kind uint8

// The kinds of failure.
const (
	Internal Kind = iota
	Invalid
	Unauthenticated
	Forbidden
	NotFound
	MethodNotAllowed
	Conflict
	PreconditionFailed
	TooLarge
	UnsupportedMedia
	RateLimited
	Unavailable
)

// Code is the stable, machine-readable name of a failure.
type Code string

// The codes callers may rely on.
const (
	CodeValidation         Code = "VALIDATION_ERROR"
	CodeAgentNotFound      Code = "AGENT_NOT_FOUND"
	CodeAgentExists        Code = "AGENT_ALREADY_EXISTS"
	CodeCredentialNotFound Code = "CREDENTIAL_NOT_FOUND"
	CodeCredential         Code = "CREDENTIAL_ERROR"
	CodeAuthentication     Code = "AUTHENTICATION_REQUIRED"
	CodeInsufficientScope  Code = "INSUFFICIENT_SCOPE"
	CodeRateLimited        Code = "RATE_LIMITED"
	CodeConflict           Code = "CONFLICT"
	CodePreconditionFailed Code = "PRECONDITION_FAILED"
	CodeNotFound           Code = "NOT_FOUND"
	CodeMethodNotAllowed   Code = "METHOD_NOT_ALLOWED"
	CodePayloadTooLarge    Code = "PAYLOAD_TOO_LARGE"
	CodeUnsupportedMedia   Code = "UNSUPPORTED_MEDIA_TYPE"
	CodeUnavailable        Code = "UNAVAILABLE"
	CodeInternal           Code = "INTERNAL"
)

// Field names one invalid input, the rule it breaks and, for people, why.
type Field struct {
	Field   string `json:"field"`
	Rule    string `json:"rule"`
	Message string `json:"message"`
}

// Error is a failure a caller can act on. Message is for the caller; the cause,
// reached by errors.Unwrap, is for the log alone.
type Error struct {
	Kind    Kind
	Code    Code
	Message string
	Fields  []Field
	// RetryAfter is how long a caller should wait; zero where waiting does not help.
	RetryAfter time.Duration
	// Scope is what the caller lacked, for Forbidden.
	Scope string

	cause error
}

// Error gives the message and, for the log, the cause.
func (e *Error) Error() string {
	if e.cause != nil {
		return e.Message + ": " + e.cause.Error()
	}
	return e.Message
}

// Unwrap gives the cause, nil where there is none.
func (e *Error) Unwrap() error { return e.cause }

// As gives the *Error in err's chain, or nil.
func As(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return nil
}

// Is reports whether err carries the code.
func Is(err error, code Code) bool {
	e := As(err)
	return e != nil && e.Code == code
}

// New makes an error of the given kind and code.
func New(kind Kind, code Code, message string) *Error {
	return &Error{Kind: kind, Code: code, Message: message}
}

// InvalidFields makes a validation error that lists every invalid field.
func InvalidFields(fields ...Field) *Error {
	return &Error{Kind: Invalid, Code: CodeValidation, Message: "the request is invalid", Fields: fields}
}

// InvalidField makes a validation error about one field.
func InvalidField(field, rule, message string) *Error {
	return InvalidFields(Field{Field: field, Rule: rule, Message: message})
}

// MissingScope makes the error for a caller whose token lacks scope.
func MissingScope(scope string) *Error {
	return &Error{Kind: Forbidden, Code: CodeInsufficientScope, Message: "the token lacks the scope " + scope, Scope: scope}
}

// UnavailableBecause makes the error for a dependency that is away or full.
// The caller may repeat the request after a moment.
func UnavailableBecause(cause error) *Error {
	return &Error{
		Kind: Unavailable, Code: CodeUnavailable, Message: "the service is not available right now",
		RetryAfter: time.Second, cause: cause,
	}
}
