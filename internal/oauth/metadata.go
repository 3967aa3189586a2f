package oauth

import (
	"log/slog"
	"net/http"

	"git.sentryagent.ai/sentryagent-idp/internal/request"
	"git.sentryagent.ai/sentryagent-idp/internal/wire"
)

// metadataBody is the published metadata (RFC 8414 §2). The last two members are
// there for clients that read it as OpenID Connect discovery and insist on them.
type metadataBody struct {
	Issuer                   string   `json:"issuer"`
	TokenEndpoint            string   `json:"token_endpoint"`
	IntrospectionEndpoint    string   `json:"introspection_endpoint"`
	RevocationEndpoint       string   `json:"revocation_endpoint"`
	RotationEndpoint         string   `json:"rotation_endpoint"`
	JWKSURI                  string   `json:"jwks_uri"`
	GrantTypes               []string `json:"grant_types_supported"`
	ResponseTypes            []string `json:"response_types_supported"`
	TokenAuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	IntrospectionAuthMethods []string `json:"introspection_endpoint_auth_methods_supported"`
	RevocationAuthMethods    []string `json:"revocation_endpoint_auth_methods_supported"`
	ServiceDocumentation     string   `json:"service_documentation"`
	SubjectTypes             []string `json:"subject_types_supported"`
	IDTokenAlgs              []string `json:"id_token_signing_alg_values_supported"`
}

// maxAge is how long the key set and the metadata may be kept, well within the
// time a new key is published before it signs.
const maxAge = "public, max-age=300"

func (h *Handler) metadata(w http.ResponseWriter, r *http.Request) {
	issuer := h.cfg.Issuer
	methods := []string{"client_secret_basic", "client_secret_post"}
	w.Header().Set("Cache-Control", maxAge)
	wire.JSON(w, r, http.StatusOK, metadataBody{
		Issuer: issuer, TokenEndpoint: issuer + "/oauth2/token", IntrospectionEndpoint: issuer + "/oauth2/introspect",
		RevocationEndpoint: issuer + "/oauth2/revoke", RotationEndpoint: issuer + "/oauth2/rotate", JWKSURI: issuer + "/.well-known/jwks.json",
		GrantTypes: []string{"client_credentials"}, ResponseTypes: []string{}, TokenAuthMethods: methods,
		IntrospectionAuthMethods: append(methods, "Bearer"), RevocationAuthMethods: methods,
		ServiceDocumentation: issuer + "/api-docs", SubjectTypes: []string{"public"}, IDTokenAlgs: h.cfg.Ring.Algs(),
	})
}

func (h *Handler) jwks(w http.ResponseWriter, r *http.Request) {
	set, err := h.cfg.Ring.JWKS()
	if err != nil {
		wire.Error(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", maxAge)
	if _, err := w.Write(set); err != nil {
		request.Note(r.Context(), slog.String("write", err.Error()))
	}
}
