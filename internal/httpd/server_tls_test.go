package httpd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// selfMade writes a certificate for 127.0.0.1 and its key, and gives the pool
// that trusts it.
func selfMade(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, bytes []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	pool = x509.NewCertPool()
	pool.AddCert(cert)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs8), pool
}

// With a certificate the server speaks TLS, and nothing older than 1.2 (R38).
func TestWithACertificateTheServerSpeaksTLS(t *testing.T) {
	certFile, keyFile, pool := selfMade(t)
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "private") })
	s := serve(t, newServer(handler, patience), listen(t), certFile, keyFile)

	c := client(t)
	c.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	resp, err := c.Get("https://" + s.addr)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || string(body) != "private" || resp.TLS == nil {
		t.Errorf("by TLS: %q, %v", body, err)
	}

	old := tls.Client(dial(t, s.addr), &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err := old.HandshakeContext(t.Context()); err == nil {
		t.Error("the server speaks TLS 1.1")
	}
	if plain, err := client(t).Get("http://" + s.addr); err == nil {
		_ = plain.Body.Close()
		if plain.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP at the TLS port: %d, want 400", plain.StatusCode)
		}
	}
	s.stop()
	if err := s.ended(t); err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func TestACertificateThatCannotBeReadEndsTheServer(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pem")
	s := serve(t, newServer(http.NotFoundHandler(), patience), listen(t), missing, missing)
	if err := s.ended(t); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Serve = %v, want that the file is missing", err)
	}
}
