package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// sessionHelp is what the commands that speak to a server's registry have in common.
const sessionHelp = `The server is named by --url, or by AGENTIDP_URL or AGENTIDP_ISSUER in the environment.
It is asked as a client would: AGENTIDP_CLIENT_ID and AGENTIDP_CLIENT_SECRET, or the name
of a file in AGENTIDP_CLIENT_SECRET_FILE, name one that may do this. An AGENT is named
by its id or its email.

Exit codes: 0 done; 3 the client may not do this, or is not known; 4 there is no such
thing; 5 the present state forbids it; 6 the server is away or too busy, try again;
1 anything else.`

// Exit codes of the commands that speak to a server's registry.
const (
	exitLines       = 2 // some lines of an import failed
	exitForbidden   = 3
	exitNotFound    = 4
	exitConflict    = 5
	exitUnavailable = 6
)

// remoteFlags say which server is asked, in whose name, and how its answers are shown.
type remoteFlags struct {
	url          string
	allowHTTP    bool
	organization string
	scopes       []string
	json         bool
}

func (f *remoteFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.url, "url", "", "the server's URL (default: AGENTIDP_URL, else AGENTIDP_ISSUER)")
	cmd.Flags().BoolVar(&f.allowHTTP, "allow-http", false, "send the client's secret in the clear, where the network is trusted")
	cmd.Flags().StringVar(&f.organization, "organization", "", "the id of another organization; only for the operator")
	cmd.Flags().StringSliceVar(&f.scopes, "with-scope", nil, "a management scope to ask for as well: nobody hands out more than they hold")
	cmd.Flags().BoolVar(&f.json, "json", false, "print what the server answers, as JSON")
}

// session is a client of a server's registry, and its token.
type session struct {
	*client
	flags  *remoteFlags
	grant  func(ctx context.Context) (granted, error)
	bearer secret.Value
	until  time.Time // when the token is renewed
}

// remoteCommand makes a command that speaks to a server's registry.
func (c *command) remoteCommand(cmd *cobra.Command, scopes string, run func(ctx context.Context, s *session, cmd *cobra.Command, args []string) error) (*cobra.Command, *remoteFlags) {
	f := &remoteFlags{}
	f.add(cmd)
	cmd.Long += "\n\n" + sessionHelp
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := c.session(f, scopes)
		if err == nil {
			err = run(cmd.Context(), s, cmd, args)
		}
		return told(err)
	}
	return cmd, f
}

func (c *command) session(f *remoteFlags, scopes string) (*session, error) {
	address := f.url
	for _, name := range []string{"AGENTIDP_URL", "AGENTIDP_ISSUER"} {
		if address == "" {
			address = c.env(name)
		}
	}
	if address == "" {
		return nil, errors.New("--url: say which server, here or in AGENTIDP_URL")
	}
	server, err := remote(address, f.allowHTTP)
	if err != nil {
		return nil, err
	}
	wanted := append(strings.Fields(scopes), f.scopes...)
	if f.organization != "" {
		wanted = append(wanted, "organizations:admin")
	}
	slices.Sort(wanted)
	asked := url.Values{"scope": {strings.Join(slices.Compact(wanted), " ")}}
	return &session{client: server, flags: f, grant: func(ctx context.Context) (granted, error) { return c.grant(ctx, server, asked) }}, nil
}

// token gives a token that lives long enough for one more request.
func (s *session) token(ctx context.Context) (secret.Value, error) {
	if now := time.Now(); s.bearer.IsZero() || now.After(s.until) {
		g, err := s.grant(ctx)
		if err != nil {
			return secret.Value{}, err
		}
		s.bearer, s.until = secret.New(g.AccessToken), now.Add(time.Duration(g.ExpiresIn)*time.Second/2)
	}
	return s.bearer, nil
}

// query adds the organization to a query.
func (s *session) query(q url.Values) url.Values {
	if q == nil {
		q = url.Values{}
	}
	if s.flags.organization != "" {
		q.Set("organizationId", s.flags.organization)
	}
	return q
}

// request makes a request with the token.
func (s *session) request(ctx context.Context, method, path string, q url.Values, mediaType string, body []byte) (*http.Request, error) {
	bearer, err := s.token(ctx)
	if err != nil {
		return nil, err
	}
	address := s.base + path
	if encoded := s.query(q).Encode(); encoded != "" {
		address += "?" + encoded
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	req.Header.Set("Authorization", "Bearer "+bearer.Reveal())
	return req, nil
}

// ask sends an object, or nothing where it is nil, and gives the JSON that comes back.
func (s *session) ask(ctx context.Context, method, path string, q url.Values, object map[string]any, want int) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*answerTimeout)
	defer cancel()
	var body []byte
	mediaType := ""
	if object != nil {
		var err error
		if body, err = json.Marshal(object); err != nil {
			return nil, err
		}
		mediaType = "application/json"
	}
	req, err := s.request(ctx, method, path, q, mediaType, body)
	if err != nil {
		return nil, err
	}
	return s.send(req, want)
}

// follow asks for an answer of any length.
func (s *session) follow(ctx context.Context, method, path string, q url.Values, mediaType string, body []byte) (io.ReadCloser, error) {
	req, err := s.request(ctx, method, path, q, mediaType, body)
	if err != nil {
		return nil, err
	}
	return s.client.follow(req)
}

// id gives the id of an agent that is named by it or by its email.
func (s *session) id(ctx context.Context, name string) (string, error) {
	if id, err := uuid.Parse(name); err == nil {
		return id.String(), nil
	}
	text, err := s.ask(ctx, http.MethodGet, "/agents", url.Values{"email": {name}}, nil, http.StatusOK)
	if err != nil {
		return "", err
	}
	found, err := decoded[listed[agentAnswer]](text)
	if err == nil && len(found.Items) == 0 {
		err = &exitError{exitNotFound, fmt.Errorf("there is no agent %q", name)}
	}
	if err != nil {
		return "", err
	}
	return found.Items[0].ID, nil
}

// listed is a page of a list.
type listed[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"nextCursor"`
}

func decoded[T any](text []byte) (T, error) {
	var value T
	if err := json.Unmarshal(text, &value); err != nil {
		return value, fmt.Errorf("reading the server's answer: %w", err)
	}
	return value, nil
}

// failure is an error as the API shows it, or the OAuth endpoints.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Details struct {
		Fields []struct {
			Message string `json:"message"`
		} `json:"fields"`
	} `json:"details"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// text says it in one line.
func (f failure) text() string {
	if f.Error != "" {
		return f.Error + ": " + f.Description
	}
	all := []string{f.Code + ": " + f.Message}
	for _, field := range f.Details.Fields {
		all = append(all, field.Message)
	}
	return strings.Join(all, "; ")
}

// told gives an error of a server's registry its exit code and, where the server said
// what is wrong, its words.
func told(err error) error {
	r := (*refusal)(nil)
	if e := (*exitError)(nil); err == nil || errors.As(err, &e) || errors.Is(err, context.Canceled) {
		return err
	}
	if !errors.As(err, &r) {
		if e := (*url.Error)(nil); errors.As(err, &e) || errors.Is(err, errSilent) {
			return &exitError{exitUnavailable, err}
		}
		return err
	}
	f, failed := decoded[failure](r.body)
	if failed == nil && (f.Code != "" || f.Error != "") {
		err = errors.New(f.text())
	}
	switch {
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden, f.Error == "invalid_scope":
		return &exitError{exitForbidden, err}
	case r.status == http.StatusNotFound:
		return &exitError{exitNotFound, err}
	case r.status == http.StatusConflict, r.status == http.StatusPreconditionFailed:
		return &exitError{exitConflict, err}
	case transient(r.status):
		return &exitError{exitUnavailable, err}
	}
	return err
}

// transient reports whether it helps to try again.
func transient(status int) bool {
	return slices.Contains([]int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, status)
}
