package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
	"golang.org/x/oauth2/clientcredentials"
)

// identityNode does what docs/agntcy-alignment.md says that an AGNTCY identity node asks of
// the provider that issued a proof. All it is given are tokens.
type identityNode struct{ t *testing.T }

// providerMetadata is what it reads of the discovery document.
type providerMetadata struct {
	Issuer        string `json:"issuer"`
	TokenEndpoint string `json:"token_endpoint"`
	JWKSURI       string `json:"jwks_uri"`
}

func (n identityNode) get(url string, into any) {
	n.t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/") {
		n.t.Fatalf("%s: %s, %s", url, resp.Status, resp.Header.Get("Content-Type"))
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		n.t.Fatalf("%s: %v", url, err)
	}
}

// provider reads both documents of an issuer, which must say the same.
func (n identityNode) provider(issuer string) providerMetadata {
	n.t.Helper()
	var open, oauth providerMetadata
	n.get(issuer+"/.well-known/openid-configuration", &open)
	n.get(issuer+"/.well-known/oauth-authorization-server", &oauth)
	if open != oauth || open.Issuer != issuer || open.TokenEndpoint == "" || open.JWKSURI != issuer+"/.well-known/jwks.json" {
		n.t.Fatalf("of %s the documents say %+v and %+v", issuer, open, oauth)
	}
	return open
}

// keys reads the key set as it is now.
func (n identityNode) keys(url string) (jwk.Set, []map[string]string) {
	n.t.Helper()
	var bare struct {
		Keys []map[string]string `json:"keys"`
	}
	n.get(url, &bare)
	text, err := json.Marshal(bare)
	if err != nil {
		n.t.Fatal(err)
	}
	set, err := jwk.Parse(text)
	if err != nil {
		n.t.Fatal(err)
	}
	return set, bare.Keys
}

// verify finds the provider from the token alone, and gives the common name and subject.
func (n identityNode) verify(proof string) (commonName, subject string, err error) {
	n.t.Helper()
	unverified, err := jwt.Parse([]byte(proof), jwt.WithVerify(false), jwt.WithValidate(true))
	if err != nil {
		return "", "", err
	}
	issuer, _ := unverified.Issuer()
	subject, _ = unverified.Subject()
	if end, ok := unverified.Expiration(); !ok || end.IsZero() || issuer == "" || subject == "" {
		return "", "", fmt.Errorf("iss %q, sub %q, exp %s", issuer, subject, end)
	}
	provider := n.provider(issuer)
	set, _ := n.keys(provider.JWKSURI)
	if _, err := jws.Verify([]byte(proof), jws.WithKeySet(set, jws.WithInferAlgorithmFromKey(true))); err != nil {
		return "", "", err
	}
	return provider.Issuer, subject, nil
}

// TestAnIdentityNodeAcceptsOurTokens is AGNTCY's side of bringing one's own identity
// provider (R14): it knows client and secret of an agent, and the issuer.
func TestAnIdentityNodeAcceptsOurTokens(t *testing.T) {
	for _, alg := range []string{"ES256", "EdDSA", "RS256"} {
		t.Run(alg, func(t *testing.T) {
			dir := t.TempDir()
			s := start(t, dir, "JWT_ALG="+alg, "RATE_LIMIT=off") // it asks again and again
			node := identityNode{t}
			made := s.register(t, s.token(t, s.first(t), management), "badged")
			if strings.HasSuffix(s.issuer, "/") {
				t.Errorf("the issuer is %s", s.issuer)
			}
			provider := node.provider(s.issuer)
			// As golang.org/x/oauth2 does by itself: Basic first, and neither scope nor audience.
			client := clientcredentials.Config{ClientID: made.ID, ClientSecret: made.Credential.ClientSecret, TokenURL: provider.TokenEndpoint}
			proof := func() string {
				t.Helper()
				token, err := client.Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return token.AccessToken
			}
			first := proof()
			name, subject, err := node.verify(first)
			if err != nil || name != s.issuer || subject != made.ID {
				t.Fatalf("the node takes the proof for one of %q by %q, %v", subject, name, err)
			}
			_, described := node.keys(provider.JWKSURI)
			for _, key := range described {
				if key["kid"] == "" || key["alg"] != alg || key["use"] != "sig" {
					t.Errorf("a key is described as %v", key)
				}
			}
			if alg != "ES256" {
				return // the rest is the same for all, and takes seconds
			}
			// After a rotation at once, nobody is told of a key that is not published.
			mustRun(t, dir, nil, "keys", "rotate", "--revoke-old")
			waitFor(t, "a proof by the new key", func() bool {
				next := proof()
				if kid(t, next) == kid(t, first) {
					return false
				}
				if _, _, err := node.verify(next); err != nil {
					t.Fatalf("the node refuses a proof by the new key: %v", err)
				}
				return true
			})
			if _, _, err := node.verify(first); err == nil {
				t.Error("a proof by the key that was taken away is still accepted")
			}
		})
	}
}

// TestTheAlignmentNamesEveryField of both sides, so that nothing is passed over in silence.
func TestTheAlignmentNamesEveryField(t *testing.T) {
	text, err := os.ReadFile("../../docs/agntcy-alignment.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(section, "\n")
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "| ") {
				sections[title] += strings.SplitN(line, "|", 3)[1] + "\n"
			}
		}
	}
	for title, fields := range map[string]string{
		"Identity":    "commonName organization subOrganization publicKey authType id controller verificationMethod assertionMethod service",
		"Agent Badge": "@context type id issuer issuanceDate expirationDate credentialSubject credentialSchema credentialStatus proof",
		"OASF record": "name version schema_version description authors created_at skills domains locators modules annotations " +
			"id email agentType version capabilities owner deploymentEnv status createdAt updatedAt lastAuthAt metadata",
	} {
		for field := range strings.FieldsSeq(fields) {
			if !strings.Contains(sections[title], "`"+field+"`") {
				t.Errorf("the first column of %q does not name %s", title, field)
			}
		}
	}
}
