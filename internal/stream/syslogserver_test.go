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
	tcp := conn
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
