package oauth

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
	"git.sentryagent.ai/sentryagent-idp/internal/token"
)

// maxHeader bounds an Authorization header, in bytes.
const maxHeader = 9 << 10

// presented is what a client presents to be authenticated by.
type presented struct {
	clientID string
	secret   secret.Value
}

// readClient reads a client's id and secret from the header or the body
// (RFC 6749 §2.3.1), never from both. It fails with *token.Denial where there are
// none.
func readClient(r *http.Request, f form) (presented, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) > 1 {
		return presented{}, invalidRequest("there is more than one Authorization header")
	}
	if len(headers) == 0 {
		if f.get("client_id") == "" || f.get("client_secret") == "" {
			return presented{}, &token.Denial{Reason: token.ReasonNoCredentials}
		}
		return presented{clientID: f.get("client_id"), secret: secret.New(f.get("client_secret"))}, nil
	}
	p, ok := parseBasic(headers[0])
	if !ok {
		return presented{}, &token.Denial{Reason: token.ReasonNoCredentials}
	}
	if f.get("client_secret") != "" || f.get("client_assertion") != "" {
		return presented{}, invalidRequest("the client authenticates in more than one way")
	}
	if id := f.get("client_id"); id != "" && id != p.clientID {
		return presented{}, invalidRequest("client_id is not the client that authenticates")
	}
	return p, nil
}

// parseBasic reads a Basic header, whose two parts are form-encoded before they
// are joined.
func parseBasic(header string) (presented, bool) {
	scheme, encoded, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Basic") || len(header) > maxHeader {
		return presented{}, false
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return presented{}, false
	}
	rawID, rawSecret, ok := strings.Cut(string(raw), ":")
	if !ok {
		return presented{}, false
	}
	id, err := url.QueryUnescape(rawID)
	if err != nil || id == "" || !clean(id) {
		return presented{}, false
	}
	text, err := url.QueryUnescape(rawSecret)
	if err != nil || text == "" || !clean(text) {
		return presented{}, false
	}
	return presented{clientID: id, secret: secret.New(text)}, true
}

// readBearer gives the token of a Bearer header (RFC 6750 §2.1).
func readBearer(r *http.Request) (string, bool) {
	headers := r.Header.Values("Authorization")
	if len(headers) != 1 || len(headers[0]) > maxHeader {
		return "", false
	}
	scheme, raw, ok := strings.Cut(headers[0], " ")
	return raw, ok && strings.EqualFold(scheme, "Bearer") && raw != ""
}
