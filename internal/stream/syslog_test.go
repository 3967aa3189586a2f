package stream_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/stream"
)

func TestSyslogMessagesAreThoseOfRFC5424(t *testing.T) {
	a := newAuthority(t)
	l := secure(t, a, nil)
	to, r := serve(t, l, nil), newRecord(3)
	deliver(t, syslogTo(t, l, stream.Settings{SyslogCAFile: write(t, a.pem)}), r.entries)
	got := to.all()
	if len(got) != 3 {
		t.Fatalf("%d messages came, want 3", len(got))
	}
	form := regexp.MustCompile(`^<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) \[agentidp@32473 sequence="(\d+)" id="([0-9a-f-]{36})"\] (.+)$`)
	for i, message := range got {
		e, err := r.entries[i].Event()
		if err != nil {
			t.Fatal(err)
		}
		priority := "110" // 13·8 + 6
		if i == 2 {
			priority = "108" // a refusal
		}
		want := []string{priority, e.Time.Format("2006-01-02T15:04:05.000000Z"), "node1.example", "agentidp", "-", "token.issued", strconv.Itoa(i + 1), e.ID.String(), lines(r.entries)[i]}
		if parts := form.FindStringSubmatch(message); parts == nil || !slices.Equal(parts[1:], want) {
			t.Errorf("message %d is %q, want %q", i, message, want)
		}
	}
}

func TestSyslogIsDeliveredInOrder(t *testing.T) {
	a := newAuthority(t)
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			l := secure(t, a, func(c *tls.Config) { c.MaxVersion = version })
			to, r := serve(t, l, nil), newRecord(50)
			s := start(t, r, stream.RunnerConfig{Sink: syslogTo(t, l, stream.Settings{SyslogCAFile: write(t, a.pem)}), Batch: 7})
			eventually(t, "everything", func() bool { return r.at("test") == 50 })
			s.stop()
			if got := to.msg(); !slices.Equal(got, lines(r.entries)) {
				t.Errorf("it got %d messages\n%v", len(got), got)
			}
			if to.resumed < 5 {
				t.Errorf("%d of %d connections took up the session again", to.resumed, to.conns)
			}
		})
	}
}

// The connection breaks within a batch, at every place: nothing is lost, and the
// order is kept.
func TestAServerThatIsCutOffWithinABatchMissesNothing(t *testing.T) {
	a := newAuthority(t)
	l := secure(t, a, nil)
	to := serve(t, l, func(conn int) int {
		if conn <= 6 {
			return conn - 1
		}
		return -1
	})
	r := newRecord(12)
	s := start(t, r, stream.RunnerConfig{Sink: syslogTo(t, l, stream.Settings{SyslogCAFile: write(t, a.pem)}), Batch: 6})
	eventually(t, "everything", func() bool { return r.at("test") == 12 })
	s.stop()
	wantDelivered(t, r, to.msg())
	if got := len(to.msg()); got != 12+15 {
		t.Errorf("%d messages came, want 12 and the 15 that were cut off", got)
	}
}

// A server that takes bytes and dies before it read them has not taken the events:
// nothing would tell us but its closing.
func TestWhatNobodyReadIsNotDelivered(t *testing.T) {
	a := newAuthority(t)
	l := secure(t, a, nil)
	to := serve(t, l, func(conn int) int {
		if conn == 1 {
			return 1 // of three that were written
		}
		return -1
	})
	sink, r := syslogTo(t, l, stream.Settings{SyslogCAFile: write(t, a.pem)}), newRecord(3)
	if err := sink.Deliver(t.Context(), r.entries); err == nil {
		t.Error("a batch that was not read was taken for delivered")
	}
	deliver(t, sink, r.entries)
	wantDelivered(t, r, to.msg())
}

func TestAServerThatIsDownAndBackMissesNothing(t *testing.T) {
	a := newAuthority(t)
	l := secure(t, a, nil)
	to, r := serve(t, l, nil), newRecord(5)
	s := start(t, r, stream.RunnerConfig{Sink: syslogTo(t, l, stream.Settings{SyslogCAFile: write(t, a.pem)})})
	eventually(t, "the first", func() bool { return r.at("test") == 5 })
	to.stop()
	r.grow(5)
	eventually(t, "the failure", func() bool { return s.Status().Err != nil })
	cert, key := a.issue(t, "127.0.0.1")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	again, err := tls.Listen("tcp", l.Addr().String(), &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	back := serve(t, again, nil)
	eventually(t, "the rest", func() bool { return r.at("test") == 10 })
	s.stop()
	wantDelivered(t, r, slices.Concat(to.msg(), back.msg()))
}

func TestAServerThatIsNotTheOneGetsNothing(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	ca := write(t, a.pem)
	for name, c := range map[string]struct {
		by     authority
		change func(*tls.Config)
		ca     string
	}{
		"another authority": {by: other, ca: ca},
		"the system's":      {by: a},
		"another name": {by: a, ca: ca, change: func(cfg *tls.Config) {
			cert, key := a.issue(t, "192.0.2.1")
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Certificates = []tls.Certificate{pair}
		}},
		"an old TLS": {by: a, ca: ca, change: func(cfg *tls.Config) { cfg.MaxVersion = tls.VersionTLS11 }},
	} {
		t.Run(name, func(t *testing.T) {
			l := secure(t, c.by, c.change)
			to := serve(t, l, nil)
			if err := syslogTo(t, l, stream.Settings{SyslogCAFile: c.ca}).Deliver(t.Context(), newRecord(2).entries); err == nil {
				t.Error("it was delivered")
			}
			if got := to.all(); len(got) != 0 {
				t.Errorf("it got %v", got)
			}
		})
	}
}

func TestAServerMayWantToKnowWhoWeAre(t *testing.T) {
	a := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	cert, key := a.issue(t, "127.0.0.1")
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			l := secure(t, a, func(c *tls.Config) {
				c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, pool, version
			})
			to, r := serve(t, l, nil), newRecord(3)
			known := stream.Settings{SyslogCAFile: write(t, a.pem), SyslogCertFile: write(t, cert), SyslogKeyFile: write(t, key)}
			deliver(t, syslogTo(t, l, known), r.entries)
			if got := to.msg(); !slices.Equal(got, lines(r.entries)) {
				t.Errorf("it got %v", got)
			}
			// In TLS 1.3 a refusal comes after the handshake, when the batch was written.
			unknown := stream.Settings{SyslogCAFile: known.SyslogCAFile}
			if err := syslogTo(t, l, unknown).Deliver(t.Context(), r.entries); err == nil {
				t.Error("who we are was not asked, or the refusal was not heard")
			}
		})
	}
}

func TestPlainTCPIsForThisMachine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to, r := serve(t, l, nil), newRecord(3)
	deliver(t, syslogTo(t, l, stream.Settings{Syslog: "tcp://" + l.Addr().String()}), r.entries)
	if got := to.msg(); !slices.Equal(got, lines(r.entries)) {
		t.Errorf("it got %v", got)
	}
	if _, err := stream.NewSyslog(stream.Settings{Syslog: "tcp://192.0.2.1:514"}, "", format(t, export.NDJSON)); err == nil {
		t.Error("the record would travel in the clear")
	}
}

// A server that neither reads nor closes holds up nothing but its own stream, and not
// the end of that.
func TestAHangingServerDoesNotHoldUpTheEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			accepted <- conn
		}
	}()
	r := newRecord(1)
	s := start(t, r, stream.RunnerConfig{Sink: syslogTo(t, l, stream.Settings{Syslog: "tcp://" + l.Addr().String()})})
	conn := <-accepted
	s.stop()
	if r.at("test") != 0 {
		t.Error("what nobody read was taken for delivered")
	}
	_ = errors.Join(conn.Close(), l.Close())
}

func TestAServerThatTalksIsNoSyslogServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write(make([]byte, 64<<10))
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}()
	if err := syslogTo(t, l, stream.Settings{Syslog: "tcp://" + l.Addr().String()}).Deliver(t.Context(), newRecord(1).entries); err == nil || !strings.Contains(err.Error(), "talks") {
		t.Errorf("Deliver = %v", err)
	}
}

func TestFilesOfSyslogAreRead(t *testing.T) {
	a := newAuthority(t)
	cert, _ := a.issue(t, "127.0.0.1")
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct {
		settings stream.Settings
		names    string
	}{
		{stream.Settings{SyslogCAFile: missing}, "AUDIT_STREAM_SYSLOG_CA_FILE"},
		{stream.Settings{SyslogCAFile: write(t, []byte("nothing"))}, "AUDIT_STREAM_SYSLOG_CA_FILE"},
		{stream.Settings{SyslogCertFile: missing, SyslogKeyFile: missing}, "AUDIT_STREAM_SYSLOG_CERT_FILE"},
		{stream.Settings{SyslogCertFile: write(t, cert), SyslogKeyFile: write(t, cert)}, "AUDIT_STREAM_SYSLOG_CERT_FILE"},
	} {
		c.settings.Syslog = "tls://127.0.0.1:6514"
		if _, err := stream.NewSyslog(c.settings, "", format(t, export.NDJSON)); err == nil || !strings.Contains(err.Error(), c.names) {
			t.Errorf("%+v gives %v, want an error of %s", c.settings, err, c.names)
		}
	}
}

func TestWhatIsNoEventIsNotSent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := serve(t, l, nil)
	sink := syslogTo(t, l, stream.Settings{Syslog: "tcp://" + l.Addr().String()})
	if err := sink.Deliver(t.Context(), []export.Entry{newRecord(1).entries[0], {Sequence: 2, Body: []byte("{}")}}); !errors.Is(err, export.ErrBody) {
		t.Errorf("Deliver = %v, want ErrBody", err)
	}
	if len(to.all()) != 0 {
		t.Error("half a batch was sent")
	}
}
