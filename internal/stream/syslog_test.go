package stream_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/export"
	"git.sentryagent.ai/sentryagent-idp/internal/stream"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue gives the PEM of a certificate for an address, and of its key.
func (a authority) issue(t *testing.T, address string) (cert, key []byte) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "logs"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(address)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &own.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// write writes a file of the test and gives its path.
func write(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// server is a syslog server after RFC 5425. It reads frames and keeps messages.
type server struct {
	t        *testing.T
	listener net.Listener
	mu       sync.Mutex
	messages []string
	conns    int
	resumed  int
	// cut says after how many messages a connection is dropped; nil or less than 0
	// for never.
	cut func(conn int) int
	wg  sync.WaitGroup
}

// serve accepts connections until the test ends, or stop is called.
func serve(t *testing.T, l net.Listener, cut func(conn int) int) *server {
	t.Helper()
	s := &server{t: t, listener: l, cut: cut}
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.handle(conn) })
		}
	})
	t.Cleanup(s.stop)
	return s
}

func (s *server) stop() {
	_ = s.listener.Close()
	s.wg.Wait()
}

func (s *server) handle(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	s.mu.Lock()
	s.conns++
	least := -1
	if s.cut != nil {
		least = s.cut(s.conns)
	}
	s.mu.Unlock()
	in := bufio.NewReaderSize(conn, 64)
	for n := 0; n != least; n++ {
		message, err := frame(in)
		if over, ok := conn.(*tls.Conn); ok && n == 0 && over.ConnectionState().DidResume {
			s.mu.Lock()
			s.resumed++
			s.mu.Unlock()
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && least < 0 {
				s.t.Logf("the server reads: %v", err)
			}
			return
		}
		s.mu.Lock()
		s.messages = append(s.messages, message)
		s.mu.Unlock()
	}
	var tcp net.Conn = conn
	if over, ok := conn.(*tls.Conn); ok {
		tcp = over.NetConn()
	}
	_ = tcp.(*net.TCPConn).SetLinger(0) // a reset
	_ = tcp.Close()
}

// frame reads one message, counted by octets (RFC 5425 §4.3).
func frame(in *bufio.Reader) (string, error) {
	count, err := in.ReadString(' ')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(count, " "))
	if err != nil || count[0] == '0' {
		return "", fmt.Errorf("%q is no count", count)
	}
	message := make([]byte, n)
	_, err = io.ReadFull(in, message)
	return string(message), err
}

func (s *server) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// msg is the MSG part of each message.
func (s *server) msg() []string {
	var all []string
	for _, m := range s.all() {
		_, line, _ := strings.Cut(m, "] ")
		all = append(all, line)
	}
	return all
}

// secure is a listener with a certificate of the authority for 127.0.0.1.
func secure(t *testing.T, a authority, change func(*tls.Config)) net.Listener {
	t.Helper()
	cert, key := a.issue(t, "127.0.0.1")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS10}
	if change != nil {
		change(cfg)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func syslogTo(t *testing.T, l net.Listener, s stream.Settings) *stream.Syslog {
	t.Helper()
	if s.Syslog == "" {
		s.Syslog = "tls://" + l.Addr().String()
	}
	sink, err := stream.NewSyslog(s, "node 1.example", format(t, export.NDJSON))
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

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
