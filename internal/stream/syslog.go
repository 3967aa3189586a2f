package stream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/audit"
	"git.sentryagent.ai/sentryagent-idp/internal/export"
)

// Bounds on one batch for a syslog server.
const (
	syslogTimeout = 30 * time.Second
	// farewell is how much a server may say before it closes the connection; the
	// protocol gives it nothing to say.
	farewell = 4 << 10
)

// Syslog sends messages after RFC 5424, framed after RFC 5425 §4.3. The protocol
// has no acknowledgement, so a batch is one connection: it counts as delivered when
// the server, having read all of it, has closed its side as well (RFC 5425 §4.4).
type Syslog struct {
	address  address
	tls      *tls.Config // nil on this machine
	hostname string
	format   export.Format
}

// NewSyslog makes a sink for the server that the settings name. hostname is what
// messages call this machine. It fails where the settings are wrong or their files
// cannot be read.
func NewSyslog(s Settings, hostname string, format export.Format) (*Syslog, error) {
	to, err := parseSyslog(s.Syslog)
	if err != nil {
		return nil, fmt.Errorf("AUDIT_STREAM_SYSLOG: %w", err)
	}
	sink := &Syslog{address: to, hostname: header(hostname, 255), format: format}
	if !to.tls {
		return sink, nil
	}
	// A connection for each batch is cheap where the session is taken up again.
	sink.tls = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: to.host, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	if s.SyslogCAFile != "" {
		pem, err := os.ReadFile(filepath.Clean(s.SyslogCAFile))
		if err != nil {
			return nil, fmt.Errorf("AUDIT_STREAM_SYSLOG_CA_FILE: %w", err)
		}
		sink.tls.RootCAs = x509.NewCertPool()
		if !sink.tls.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("AUDIT_STREAM_SYSLOG_CA_FILE: holds no certificate (PEM)")
		}
	}
	if s.SyslogCertFile != "" {
		own, err := tls.LoadX509KeyPair(s.SyslogCertFile, s.SyslogKeyFile)
		if err != nil {
			return nil, fmt.Errorf("AUDIT_STREAM_SYSLOG_CERT_FILE: %w", err)
		}
		sink.tls.Certificates = []tls.Certificate{own}
	}
	return sink, nil
}

// Deliver sends the batch and returns when the server has read it.
func (s *Syslog) Deliver(ctx context.Context, batch []export.Entry) error {
	var b, message []byte
	for _, e := range batch {
		var err error
		if message, err = s.append(message[:0], e); err != nil {
			return formatting(e, err)
		}
		b = append(strconv.AppendInt(b, int64(len(message)), 10), ' ')
		b = append(b, message...)
	}
	ctx, cancel := context.WithTimeout(ctx, syslogTimeout)
	defer cancel()
	conn, err := s.dial(ctx)
	if err != nil {
		return fmt.Errorf("connecting to the syslog server: %w", err)
	}
	// Who stops us, or the time that is up, ends whatever waits.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	defer func() { _ = conn.Close() }() // all that matters was said before
	if _, err := conn.Write(b); err != nil {
		return fmt.Errorf("sending to the syslog server: %w", err)
	}
	if err := finish(conn); err != nil {
		return fmt.Errorf("waiting for the syslog server to have read everything: %w", err)
	}
	return nil
}

// Close does nothing, as no connection is kept.
func (s *Syslog) Close() error { return nil }

// halfCloser is a connection that can say that nothing more comes: close_notify in
// TLS, FIN in TCP.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func (s *Syslog) dial(ctx context.Context) (halfCloser, error) {
	var conn net.Conn
	var err error
	if s.tls != nil {
		conn, err = (&tls.Dialer{Config: s.tls}).DialContext(ctx, "tcp", s.address.String())
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", s.address.String())
	}
	if err != nil {
		return nil, err
	}
	half, ok := conn.(halfCloser)
	if !ok {
		return nil, errors.Join(errors.New("the connection cannot be closed by halves"), conn.Close())
	}
	return half, nil
}

// finish says that nothing more comes and waits for the other side to say so too,
// which it does when it has read what came before. An alert of TLS, such as one that
// refuses our certificate, and a reset are failures.
func finish(conn halfCloser) error {
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if over, ok := conn.(*tls.Conn); ok {
		// Some servers look at TCP alone.
		if tcp, ok := over.NetConn().(*net.TCPConn); ok {
			if err := tcp.CloseWrite(); err != nil {
				return err
			}
		}
	}
	n, err := io.CopyN(io.Discard, conn, farewell)
	switch {
	case err == nil:
		return errors.New("it talks instead of closing")
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF): // some close TCP without a word of TLS
		return nil
	}
	return fmt.Errorf("after %d bytes: %w", n, err)
}

// Facility 13 is the log audit; the severities are those of RFC 5424 §6.2.1.
const (
	facility      = 13 << 3
	warning       = 4
	informational = 6
)

// append appends one message. Its structured data repeats what is needed to order
// events and find gaps. The message is JSON without the byte order mark that RFC
// 5424 §6.4 would have before UTF-8: parsers of JSON refuse one.
func (s *Syslog) append(b []byte, entry export.Entry) ([]byte, error) {
	e, err := entry.Event()
	if err != nil {
		return b, err
	}
	severity := informational
	if e.Outcome == audit.Denied {
		severity = warning
	}
	b = append(strconv.AppendInt(append(b, '<'), int64(facility|severity), 10), ">1 "...)
	b = e.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(append(b, ' '), s.hostname...)
	b = append(append(b, " agentidp - "...), header(string(e.Action), 32)...)
	b = append(b, ` [agentidp@32473 sequence="`...)
	b = strconv.AppendInt(b, e.Sequence, 10)
	b = append(append(append(b, `" id="`...), e.ID.String()...), `"] `...)
	line, err := s.format.Append(b, entry)
	if err != nil {
		return b, err
	}
	return line[:len(line)-1], nil // the frame counts, no line feed ends it
}

// header makes a text one that may stand in a header (RFC 5424 §6): visible ASCII, so
// many characters at most, or the value that stands for none.
func header(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r < '!' || r > '~' {
			return -1
		}
		return r
	}, text)
	if text == "" {
		return "-"
	}
	return text[:min(len(text), most)]
}
