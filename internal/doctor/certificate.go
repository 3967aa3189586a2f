package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"time"
)

// renewal is how long before its end a certificate should have been renewed.
const renewal = 14 * 24 * time.Hour

// certificate looks at what clients are shown.
func certificate(_ context.Context, s *state) ([]string, error) {
	if s.cfgErr != nil {
		return nil, errSettings
	}
	if s.cfg.TLSCertFile == "" {
		return nil, errNotAsked
	}
	var f found
	pair, err := tls.LoadX509KeyPair(s.cfg.TLSCertFile, s.cfg.TLSKeyFile)
	if err != nil {
		f.when(true, "TLS_CERT_FILE and TLS_KEY_FILE cannot be used: %v", err)
		return f, nil
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, err
	}
	f.when(s.now.Before(leaf.NotBefore), "TLS_CERT_FILE: the certificate is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	switch left := leaf.NotAfter.Sub(s.now); {
	case left <= 0:
		f.when(true, "TLS_CERT_FILE: the certificate ended at %s: renew it, and restart the server", leaf.NotAfter.UTC().Format(time.RFC3339))
	case left < renewal:
		f.when(true, "TLS_CERT_FILE: the certificate ends in %d days, at %s: renew it, and restart the server", int(left.Hours()/24), leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if u, err := url.Parse(s.cfg.Issuer); err == nil && u.Hostname() != "" {
		err := leaf.VerifyHostname(u.Hostname())
		f.when(err != nil, "TLS_CERT_FILE: the certificate is not made out to the host of JWT_ISSUER, %s", u.Hostname())
	}
	return f, nil
}
