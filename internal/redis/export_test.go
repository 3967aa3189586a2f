package redis

import (
	"crypto/x509"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// Wait makes the client patient, so that a busy machine does not look like an
// outage.
func (c *Client) Wait(patience time.Duration) { c.patience = patience }

// OpenTrusting is Open with certificates to trust instead of the system's, which a
// process reads but once.
func OpenTrusting(url secret.Value, now func() time.Time, roots *x509.CertPool) (*Client, error) {
	option, err := options(url)
	if err != nil {
		return nil, err
	}
	option.TLSConfig.RootCAs = roots
	return open(option, now), nil
}
