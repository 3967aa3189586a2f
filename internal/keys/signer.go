package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Alg is a signature algorithm by its JOSE name (RFC 7518 §3.1, RFC 8037).
type Alg string

// The algorithms keys can be made for.
const (
	ES256 Alg = "ES256"
	EdDSA Alg = "EdDSA"
	RS256 Alg = "RS256"
)

// Signer signs with one key. Implementations are safe for concurrent use.
type Signer interface {
	KID() string
	Alg() Alg
	// Sign gives the JOSE signature of the message; ES256 as r||s (RFC 7518 §3.4).
	Sign(message []byte) ([]byte, error)
}

// localSigner holds the private key in memory.
type localSigner struct {
	kid string
	alg Alg
	key crypto.Signer
}

func (s *localSigner) KID() string { return s.kid }
func (s *localSigner) Alg() Alg    { return s.alg }

func (s *localSigner) Sign(message []byte) ([]byte, error) {
	switch key := s.key.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(key, message), nil
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256(message)
		der, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			return nil, fmt.Errorf("signing: %w", err)
		}
		return joseForm(der)
	default:
		digest := sha256.Sum256(message)
		return s.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	}
}

// joseForm turns an ASN.1 signature of P-256 into r||s.
func joseForm(der []byte) ([]byte, error) {
	input := cryptobyte.String(der)
	var inner cryptobyte.String
	out := make([]byte, 64)
	if !input.ReadASN1(&inner, asn1.SEQUENCE) || !input.Empty() {
		return nil, errSignature
	}
	for _, half := range [][]byte{out[:32], out[32:]} {
		var n cryptobyte.String
		if !inner.ReadASN1(&n, asn1.INTEGER) {
			return nil, errSignature
		}
		digits := bytes.TrimLeft(n, "\x00")
		if len(digits) > len(half) {
			return nil, errSignature
		}
		copy(half[len(half)-len(digits):], digits)
	}
	if !inner.Empty() {
		return nil, errSignature
	}
	return out, nil
}

var errSignature = errors.New("signing: the signature is not one of P-256")

// SignCompact signs a payload and gives the compact serialization (RFC 7515 §3.1); typ is
// the type header.
func SignCompact(s Signer, typ string, payload []byte) (string, error) {
	header := `{"alg":"` + string(s.Alg()) + `","typ":"` + typ + `","kid":"` + s.KID() + `"}`
	enc := base64.RawURLEncoding
	b := make([]byte, 0, enc.EncodedLen(len(header))+enc.EncodedLen(len(payload))+512)
	b = enc.AppendEncode(b, []byte(header))
	b = append(b, '.')
	b = enc.AppendEncode(b, payload)
	signature, err := s.Sign(b)
	if err != nil {
		return "", err
	}
	b = append(b, '.')
	return string(enc.AppendEncode(b, signature)), nil
}

// generate makes a private key.
func generate(alg Alg) (crypto.Signer, error) {
	switch alg {
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EdDSA:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case RS256:
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return nil, fmt.Errorf("the signature algorithm %q is not known", alg)
}

// publish gives the public half as a JWK whose kid is its thumbprint (RFC 7638).
func publish(alg Alg, key crypto.Signer) (kid string, jwk []byte, err error) {
	public := jose.JSONWebKey{Key: key.Public(), Algorithm: string(alg), Use: "sig"}
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", nil, fmt.Errorf("naming a key: %w", err)
	}
	public.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	jwk, err = public.MarshalJSON()
	return public.KeyID, jwk, err
}

func encodePrivate(key crypto.Signer) ([]byte, error) { return x509.MarshalPKCS8PrivateKey(key) }

func decodePrivate(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("reading a private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return signer, nil
}
