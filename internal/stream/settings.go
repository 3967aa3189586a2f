package stream

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/secret"
)

// Settings say which streams there are. Each is off where its target is empty.
type Settings struct {
	// File is the path of a file that events are appended to.
	File string
	// Syslog is tls://HOST:PORT, or tcp://HOST:PORT on this machine.
	Syslog string
	// SyslogCAFile holds the authorities that the server's certificate is verified
	// by (PEM); the system's where it is empty.
	SyslogCAFile string
	// SyslogCertFile and SyslogKeyFile are the client's certificate, for servers
	// that want one (PEM).
	SyslogCertFile, SyslogKeyFile string
	// Webhook is an https URL, or an http one on this machine.
	Webhook string
	// WebhookSecret signs. While it is being changed it holds both, the new and the
	// old, with a space between.
	WebhookSecret secret.Value
	// Format is export.NDJSON or export.OCSF.
	Format string
}

// Any reports whether there is a stream.
func (s Settings) Any() bool { return s.File != "" || s.Syslog != "" || s.Webhook != "" }

// minSecret is how many bytes a secret of a webhook has at least, after Standard
// Webhooks.
const minSecret = 24

// Check tells everything that is wrong, by the names of the settings.
func (s Settings) Check() []error {
	var wrong []error
	refuse := func(bad bool, text string) {
		if bad {
			wrong = append(wrong, errors.New(text))
		}
	}
	if s.Syslog != "" {
		_, err := parseSyslog(s.Syslog)
		refuse(err != nil, fmt.Sprintf("AUDIT_STREAM_SYSLOG: %v", err))
	}
	refuse((s.SyslogCertFile == "") != (s.SyslogKeyFile == ""), "AUDIT_STREAM_SYSLOG_CERT_FILE and AUDIT_STREAM_SYSLOG_KEY_FILE: set both or none")
	if s.Webhook != "" {
		err := checkWebhook(s.Webhook)
		refuse(err != nil, fmt.Sprintf("AUDIT_STREAM_WEBHOOK: %v", err))
	}
	if s.Webhook != "" || !s.WebhookSecret.IsZero() {
		_, err := signingKeys(s.WebhookSecret)
		refuse(err != nil, fmt.Sprintf("AUDIT_STREAM_WEBHOOK_SECRET: %v", err))
	}
	refuse(s.Format != "" && s.Format != export.NDJSON && s.Format != export.OCSF, "AUDIT_STREAM_FORMAT: must be ndjson or ocsf")
	return wrong
}

// address is where a syslog server listens.
type address struct {
	host, port string
	tls        bool
}

func parseSyslog(text string) (address, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Port() == "" || u.Path != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return address{}, errors.New("must be tls://HOST:PORT, such as tls://logs.example.com:6514")
	}
	switch {
	case u.Scheme == "tls":
		return address{host: u.Hostname(), port: u.Port(), tls: true}, nil
	case u.Scheme == "tcp" && loopback(u.Hostname()):
		return address{host: u.Hostname(), port: u.Port()}, nil
	}
	return address{}, errors.New("must be tls://HOST:PORT; tcp:// is for a server on this machine alone")
}

func (a address) String() string { return net.JoinHostPort(a.host, a.port) }

func checkWebhook(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Fragment != "" || u.Opaque != "":
		return errors.New("must be a URL such as https://siem.example.com/agentidp")
	case u.User != nil:
		return errors.New("must not hold a user or a password: deliveries are signed")
	case u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return errors.New("must be https; http:// is for a receiver on this machine alone")
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// signingKeys gives the keys of the secrets: the bytes of each, or, where it begins
// with whsec_, what its base64 says, as libraries for Standard Webhooks take it.
func signingKeys(from secret.Value) ([][]byte, error) {
	if from.IsZero() {
		return nil, errors.New("is required, as deliveries are signed; make one with: openssl rand -hex 32")
	}
	var keys [][]byte
	for text := range strings.FieldsSeq(from.Reveal()) {
		key := []byte(text)
		if encoded, ok := strings.CutPrefix(text, "whsec_"); ok {
			var err error
			if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
				return nil, errors.New("must be base64 after whsec_")
			}
		}
		if len(key) < minSecret {
			return nil, fmt.Errorf("must have at least %d bytes", minSecret)
		}
		keys = append(keys, key)
	}
	if len(keys) < 1 || len(keys) > 2 {
		return nil, errors.New("must be one secret or, while it is being changed, two with a space between")
	}
	return keys, nil
}
