package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// How long a server may take to begin its answer, and to be silent within one. A long
// answer may take as long as it needs.
const (
	answerTimeout = time.Minute
	silence       = 2 * time.Minute
)

// maxSecretFile bounds the file of a client secret, in bytes.
const maxSecretFile = 4096

var (
	errSilent = errors.New("the server has been silent for too long")
	errNoEnd  = errors.New("the answer does not say where it ends, so that one that was cut off could not be told")
)

// remote is the client of a server that somebody named. It follows no redirect: a
// bearer token must not go anywhere else.
func remote(address string, allowHTTP bool) (*client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("--url: give the server's address, such as https://idp.example.com")
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && !allowHTTP && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, errors.New("--url: the client's secret would travel in the clear; use https, or give --allow-http")
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: answerTimeout}
	return &client{base: strings.TrimSuffix(address, "/"), silence: silence, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// bearer gets a token as the client that the environment names.
func (c *command) bearer(ctx context.Context, server *client, scopes string) (secret.Value, error) {
	g, err := c.grant(ctx, server, url.Values{"scope": {scopes}})
	return secret.New(g.AccessToken), err
}

// grant is the client credentials grant of the client that the environment names. The
// scope, where one is asked for, must be granted whole.
func (c *command) grant(ctx context.Context, server *client, asked url.Values) (granted, error) {
	id, value, file := c.env("AGENTIDP_CLIENT_ID"), secret.New(c.env("AGENTIDP_CLIENT_SECRET")), c.env("AGENTIDP_CLIENT_SECRET_FILE")
	switch {
	case id == "":
		return granted{}, errors.New("AGENTIDP_CLIENT_ID: say in the environment which client asks")
	case value.IsZero() == (file == ""):
		return granted{}, errors.New("AGENTIDP_CLIENT_SECRET: give it in the environment, or the name of a file in AGENTIDP_CLIENT_SECRET_FILE, one of both")
	case file != "":
		text, err := readSmall(file, maxSecretFile)
		if err != nil {
			return granted{}, fmt.Errorf("AGENTIDP_CLIENT_SECRET_FILE: %w", err)
		}
		value = secret.New(strings.TrimRight(text, "\r\n"))
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	g, err := server.grant(ctx, id, value.Reveal(), asked)
	if err != nil {
		return granted{}, fmt.Errorf("getting a token: %w", err)
	}
	if g.AccessToken == "" {
		return granted{}, errors.New("getting a token: the answer has none")
	}
	for wanted := range strings.FieldsSeq(asked.Get("scope")) {
		if g.Scope != "" && !slices.Contains(strings.Fields(g.Scope), wanted) {
			return granted{}, fmt.Errorf("the client may not %s", wanted)
		}
	}
	return g, nil
}

// readSmall reads a file that must not be long.
func readSmall(path string, most int64) (string, error) {
	file, err := os.Open(path) //nolint:gosec // the user says which file
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s is longer than %d bytes", path, most)
	}
	return string(text), err
}

// stream asks for an answer of any length. Reading it fails where it is cut off, and
// where the server says nothing for long.
func (c *client) stream(ctx context.Context, path string, query url.Values, bearer secret.Value) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer.Reveal())
	return c.follow(req)
}

// follow sends a request whose answer may be of any length.
func (c *client) follow(req *http.Request) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	resp, err := c.http.Do(req.WithContext(ctx)) //nolint:bodyclose // what is returned closes it
	if err != nil {
		cancel(err)
		return nil, err
	}
	s := &stream{ctx: ctx, cancel: cancel, body: resp.Body, silence: c.silence, timer: time.AfterFunc(c.silence, func() { cancel(errSilent) })}
	switch {
	case resp.StatusCode != http.StatusOK:
		body, _ := io.ReadAll(io.LimitReader(s, maxAnswer)) // the status says it, whatever comes of the rest
		err = refused(resp, body)
	case resp.ProtoMajor == 1 && resp.ContentLength < 0 && !resp.Uncompressed && !slices.Contains(resp.TransferEncoding, "chunked"):
		err = errNoEnd
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// stream is an answer while it is read.
type stream struct {
	ctx     context.Context // tells why reading ended
	cancel  context.CancelCauseFunc
	body    io.ReadCloser
	silence time.Duration
	timer   *time.Timer
}

// Read reads on. Where the reading was stopped it says why.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	s.timer.Reset(s.silence)
	if cause := context.Cause(s.ctx); err != nil && !errors.Is(err, io.EOF) && cause != nil {
		err = cause
	}
	return n, err
}

// Close ends it.
func (s *stream) Close() error {
	s.timer.Stop()
	s.cancel(nil)
	return s.body.Close()
}
