package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"

	"git.sentryagent.ai/sentryagent-idp/bench/fleet"
)

func main() {
	if err := run(os.Stdin, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

// run reads the clients from in, and serves until the process is ended.
func run(in io.Reader, out io.Writer) error {
	s, err := newServer(in)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // for the life of the process
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth2/token", s.token)
	mux.HandleFunc("GET /health/ready", func(http.ResponseWriter, *http.Request) {})
	if _, err := fmt.Fprintf(out, "floor listens on %s\n", l.Addr()); err != nil {
		return err
	}
	return (&http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}).Serve(l)
}

// server knows its clients by heart.
type server struct {
	clients map[string]client
	pepper  []byte
	key     *ecdsa.PrivateKey
	header  string
}

type client struct {
	fleet.Member
	fingerprint []byte
}

func newServer(in io.Reader) (*server, error) {
	var members []fleet.Member
	if err := json.NewDecoder(in).Decode(&members); err != nil {
		return nil, fmt.Errorf("reading the clients: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	s := &server{clients: map[string]client{}, pepper: make([]byte, 32), key: key}
	if _, err := rand.Read(s.pepper); err != nil {
		return nil, err
	}
	kid := sha256.Sum256(s.pepper)
	s.header = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","typ":"at+jwt","kid":"` + base64.RawURLEncoding.EncodeToString(kid[:]) + `"}`))
	for _, m := range members {
		s.clients[m.ClientID] = client{Member: m, fingerprint: s.fingerprint(m.Secret)}
	}
	return s, nil
}

func (s *server) fingerprint(secret string) []byte {
	mac := hmac.New(sha256.New, s.pepper)
	mac.Write([]byte(secret))
	return mac.Sum(nil)
}

func (s *server) token(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<10))
	if err != nil || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		http.Error(w, `{"error":"invalid_request"}`, http.StatusBadRequest)
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("grant_type") != "client_credentials" {
		http.Error(w, `{"error":"unsupported_grant_type"}`, http.StatusBadRequest)
		return
	}
	id, secret, _ := r.BasicAuth()
	c, known := s.clients[id]
	if subtle.ConstantTimeCompare(s.fingerprint(secret), c.fingerprint) != 1 || !known {
		http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
		return
	}
	signed, err := s.sign(s.claims(c.Member, form.Get("scope")))
	if err != nil {
		http.Error(w, `{"error":"server_error"}`, http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	answer := make([]byte, 0, len(signed)+128)
	answer = append(answer, `{"access_token":"`...)
	answer = append(answer, signed...)
	answer = append(answer, `","token_type":"Bearer","expires_in":3600,"scope":"`...)
	answer = append(answer, form.Get("scope")...)
	answer = append(answer, `"}`...)
	_, _ = w.Write(answer)
}

func (s *server) claims(m fleet.Member, scope string) []byte {
	now := time.Now().Unix()
	id := uuid.New()
	b := make([]byte, 0, 768)
	b = append(b, `{"iss":"http://localhost:3000","sub":"`...)
	b = append(b, m.ClientID...)
	b = append(b, `","client_id":"`...)
	b = append(b, m.ClientID...)
	b = append(b, `","aud":"http://localhost:3000","exp":`...)
	b = strconv.AppendInt(b, now+3600, 10)
	b = append(b, `,"iat":`...)
	b = strconv.AppendInt(b, now, 10)
	b = append(b, `,"nbf":`...)
	b = strconv.AppendInt(b, now, 10)
	b = append(b, `,"jti":"`...)
	b = append(b, id.String()...)
	b = append(b, `","scope":"`...)
	b = append(b, scope...)
	b = append(b, `","org":"`...)
	b = append(b, m.Organization...)
	b = append(b, `","agent_type":"`...)
	b = append(b, m.Type...)
	b = append(b, `","owner":"`...)
	b = append(b, m.Owner...)
	b = append(b, `","deployment_env":"`...)
	b = append(b, m.Deployment...)
	b = append(b, `","cid":"`...)
	b = append(b, m.CredentialID...)
	return append(b, `"}`...)
}

func (s *server) sign(payload []byte) ([]byte, error) {
	enc := base64.RawURLEncoding
	b := make([]byte, 0, len(s.header)+enc.EncodedLen(len(payload))+96)
	b = append(b, s.header...)
	b = append(b, '.')
	b = enc.AppendEncode(b, payload)
	digest := sha256.Sum256(b)
	r, sig, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		return nil, err
	}
	var raw [64]byte
	r.FillBytes(raw[:32])
	sig.FillBytes(raw[32:])
	b = append(b, '.')
	return enc.AppendEncode(b, raw[:]), nil
}
