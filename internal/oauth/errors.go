package oauth

import (
	"errors"
	"net/http"

	"git.sentryagent.ai/sentryagent-idp/internal/fault"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
)

// oauthError is an error of RFC 6749 §5.2 or RFC 6750 §3.1.
type oauthError struct {
	status      int
	code        string
	description string
	// challenge is the WWW-Authenticate header, empty where there is none.
	challenge string
	retry     *fault.Error
}

// Error gives the code and the description.
func (e *oauthError) Error() string { return e.code + ": " + e.description }

func invalidRequest(description string) error {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_request", description: description}
}

func invalidScope(description string) error {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_scope", description: description}
}

func invalidTarget(description string) error {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_target", description: description}
}

func unsupportedGrant() error {
	return &oauthError{status: http.StatusBadRequest, code: "unsupported_grant_type", description: "grant_type must be client_credentials"}
}

func unauthorizedClient(description string) error {
	return &oauthError{status: http.StatusBadRequest, code: "unauthorized_client", description: description}
}

// invalidClient tells nobody which part of the authentication was wrong.
func invalidClient() error {
	return &oauthError{
		status: http.StatusUnauthorized, code: "invalid_client", description: "client authentication failed",
		challenge: `Basic realm="agentidp", charset="UTF-8"`,
	}
}

func invalidToken() error {
	return &oauthError{
		status: http.StatusUnauthorized, code: "invalid_token", description: "the access token is not valid",
		challenge: `Bearer realm="agentidp", error="invalid_token"`,
	}
}

func insufficientScope(name string) error {
	return &oauthError{
		status: http.StatusForbidden, code: "insufficient_scope", description: "the access token lacks the scope " + name,
		challenge: `Bearer realm="agentidp", error="insufficient_scope", scope="` + name + `"`,
	}
}

// translate is the one table from what went wrong to what OAuth calls it. A
// fault of ours is never told as a fault of the client.
func translate(err error) error {
	if e, ok := errors.AsType[*oauthError](err); ok {
		return e
	}
	if _, ok := errors.AsType[*token.Denial](err); ok {
		return invalidClient()
	}
	if errors.Is(err, token.ErrInactive) {
		return invalidToken()
	}
	f := fault.As(err)
	if f == nil {
		return &oauthError{status: http.StatusInternalServerError, code: "server_error", description: "something went wrong on our side"}
	}
	switch f.Kind {
	case fault.Unavailable:
		return &oauthError{status: http.StatusServiceUnavailable, code: "temporarily_unavailable", description: f.Message, retry: f}
	case fault.RateLimited:
		return &oauthError{status: http.StatusTooManyRequests, code: "temporarily_unavailable", description: f.Message, retry: f}
	case fault.TooLarge, fault.UnsupportedMedia, fault.MethodNotAllowed, fault.NotFound:
		return f
	case fault.Forbidden:
		return insufficientScope(f.Scope)
	case fault.Conflict: // such as too many credentials
		return unauthorizedClient(f.Message)
	}
	return &oauthError{status: http.StatusInternalServerError, code: "server_error", description: "something went wrong on our side"}
}
