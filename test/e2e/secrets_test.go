package e2e_test

import (
	"encoding/base64"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// secrets is what must never be written anywhere, by what it is.
type secrets map[string]string

func (s secrets) client(name string, c credential) {
	s[name+"'s secret"] = c.ClientSecret
	// Past the prefix and the id of the key, which names the row.
	s[name+"'s secret without its key id"] = c.ClientSecret[len("sidp_")+12:]
	s[name+"'s Basic credentials"] = strings.TrimPrefix(basic(c), "Basic ")
}

func (s secrets) token(name, token string) {
	s[name] = token
	// Header and payload are no secret; with the signature they are a token.
	s[name+"'s signature"] = token[strings.LastIndexByte(token, '.')+1:]
}

// TestNoSecretIsWritten uses the server well and badly, and then looks for what
// is secret in the log, on standard error and in every file.
func TestNoSecretIsWritten(t *testing.T) {
	for _, hasher := range []string{"bcrypt", "hmac"} {
		t.Run(hasher, func(t *testing.T) {
			dir := t.TempDir()
			s := start(t, dir, "LOG_LEVEL=debug", "SECRET_HASHER="+hasher)
			admin := s.first(t)
			all := secrets{}
			all.client("the admin", admin)
			bearer := s.token(t, admin, management)
			all.token("the admin's token", bearer)
			agents := useWell(t, s, bearer, all)
			useBadly(t, s, bearer, agents, all)
			root, err := os.ReadFile(filepath.Join(dir, "jwt-secret"))
			if err != nil {
				t.Fatal(err)
			}
			all["the root secret"] = string(root)

			searched := all.search(t, dir) // while the server runs: the write-ahead log is full
			s.kill(t)
			searched += all.search(t, dir)
			s = start(t, dir, "LOG_LEVEL=debug", "SECRET_HASHER="+hasher)
			s.stop(t)
			searched += all.search(t, dir)
			all.searchText(t, "the log", s.stdout.String())
			all.searchText(t, "standard error of the second run", s.stderr.String())
			t.Logf("%d secrets, %d files", len(all), searched)
		})
	}
}

// useWell registers, gets tokens, rotates, revokes and asks.
func useWell(t *testing.T, s *server, bearer string, all secrets) []registered {
	t.Helper()
	var agents []registered
	for _, name := range []string{"one", "two", "three"} {
		a := s.register(t, bearer, name)
		agents = append(agents, a)
		all.client(name, a.Credential)
		token := s.token(t, a.Credential, "invoices:read")
		all.token(name+"'s token", token)
		path := "/agents/" + a.ID + "/credentials"
		next := decode[credential](t, s.mustCall(t, http.MethodPost, path+"/"+a.Credential.ID+"/rotate", bearer, map[string]any{"overlapSeconds": 3600}, http.StatusCreated))
		all.client(name+" rotated", next)
		all.token(name+"'s second token", s.token(t, next, "invoices:read"))
		more := decode[credential](t, s.mustCall(t, http.MethodPost, path, bearer, map[string]any{"label": "more"}, http.StatusCreated))
		all.client(name+" more", more)
		s.mustCall(t, http.MethodDelete, path+"/"+more.ID, bearer, nil, http.StatusNoContent)
		if active, err := s.active(bearer, token); err != nil || !active {
			t.Errorf("introspection: %t %v", active, err)
		}
		if r, err := s.form("/oauth2/revoke", basic(next), url.Values{"token": {token}}); err != nil || r.status != http.StatusOK {
			t.Errorf("revocation: %d %v", r.status, err)
		}
	}
	s.mustCall(t, http.MethodPost, "/agents/"+agents[2].ID+"/suspend", bearer, nil, http.StatusOK)
	return agents
}

// useBadly presents what is secret where it does not belong.
func useBadly(t *testing.T, s *server, bearer string, agents []registered, all secrets) {
	t.Helper()
	c, suspended := agents[0].Credential, agents[2].Credential
	wrong := c
	wrong.ClientSecret = c.ClientSecret[:len(c.ClientSecret)-8] + "AAAAAAAA"
	all.client("a wrong secret", wrong)
	mixed := credential{ClientID: agents[1].ID, ClientSecret: c.ClientSecret}
	grant := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.ClientID}, "client_secret": {c.ClientSecret}}
	refused := func(what string, r reply, err error) {
		t.Helper()
		if err != nil || r.status < 400 || r.status >= 500 {
			t.Errorf("%s: %d %s %v", what, r.status, r.body, err)
		}
		all.searchText(t, "the answer to "+what, string(r.body))
	}
	for what, who := range map[string]credential{"a wrong secret": wrong, "a suspended agent": suspended, "another's secret": mixed} {
		r, err := s.tokenReply(who, "invoices:read")
		refused(what, r, err)
	}
	for what, f := range map[string]struct {
		path, authorization string
		values              url.Values
	}{
		"credentials in the query":   {"/oauth2/token?" + grant.Encode(), "", url.Values{"grant_type": {"client_credentials"}}},
		"credentials in both places": {"/oauth2/token", basic(c), grant},
		"the secret as the client":   {"/oauth2/token", "", url.Values{"grant_type": {"client_credentials"}, "client_id": {c.ClientSecret}, "client_secret": {c.ClientID}}},
		"the secret as the grant":    {"/oauth2/token", basic(c), url.Values{"grant_type": {c.ClientSecret}}},
		"the secret without Basic":   {"/oauth2/token", "Bearer " + c.ClientSecret, url.Values{"grant_type": {"client_credentials"}}},
		"a broken Basic":             {"/oauth2/token", basic(c) + "!", url.Values{"grant_type": {"client_credentials"}}},
		"a token as the secret":      {"/oauth2/token", "", url.Values{"grant_type": {"client_credentials"}, "client_id": {c.ClientID}, "client_secret": {bearer}}},
		"a path below the endpoint":  {"/oauth2/token/" + c.ClientSecret, "", grant},
		"a token to ask with, twice": {"/oauth2/introspect", "Bearer " + bearer + "," + bearer, url.Values{"token": {bearer}}},
	} {
		r, err := s.form(f.path, f.authorization, f.values)
		refused(what, r, err)
	}
	for what, path := range map[string]string{
		"a token in the query":       "/agents?access_token=" + bearer,
		"a secret in the query":      "/agents?client_secret=" + c.ClientSecret,
		"a secret as an id":          "/agents/" + c.ClientSecret,
		"a token as a cursor":        "/audit/events?cursor=" + bearer,
		"a secret on an unknown way": "/" + c.ClientSecret,
	} {
		r, err := s.call(http.MethodGet, path, bearer, nil)
		refused(what, r, err)
	}
	r, err := s.call(http.MethodPost, "/agents", bearer, map[string]any{"email": c.ClientSecret, "clientSecret": c.ClientSecret, "version": bearer})
	refused("secrets in a body", r, err)
	r, err = s.call(http.MethodPost, "/agents", bearer, c.ClientSecret)
	refused("a secret for a body", r, err)
	r, err = s.call(http.MethodGet, "/agents", c.ClientSecret, nil)
	refused("a secret for a token", r, err)
	if active, err := s.active(bearer, c.ClientSecret); err != nil || active {
		t.Errorf("introspection of a secret: %t %v", active, err)
	}
	all.searchText(t, "the log", s.stdout.String())
	all.searchText(t, "standard error", clientLine.ReplaceAllString(s.stderr.String(), ""))
	if n := len(logLines(t, s.stdout.String())); n < 40 {
		t.Errorf("only %d lines were logged", n)
	}
}

// search looks into every file but the one that holds the root secret, and counts
// them.
func (s secrets) search(t *testing.T, dir string) (files int) {
	t.Helper()
	emails := false // what is no secret must be found, or the search is worth nothing
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "jwt-secret" {
			return err
		}
		content, err := os.ReadFile(path)
		files++
		emails = emails || strings.Contains(string(content), "one@example.com")
		s.searchText(t, d.Name(), string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !emails {
		t.Errorf("no email is in the %d files of the data directory", files)
	}
	return files
}

func (s secrets) searchText(t *testing.T, where, text string) {
	t.Helper()
	for name, value := range s {
		forms := []string{value, url.QueryEscape(value), base64.StdEncoding.EncodeToString([]byte(value))}
		for _, form := range forms {
			if strings.Contains(text, form) {
				t.Errorf("%s is in %s", name, where)
				break
			}
		}
	}
}
