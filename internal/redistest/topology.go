package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// StartTLS starts a Redis that also speaks TLS, as localhost. It gives its URL there
// and the certificate by which it can be trusted.
func StartTLS(t testing.TB) (s *Server, url string, ca *x509.CertPool) {
	t.Helper()
	certificate, key, ca := certificate(t)
	port := strconv.Itoa(freePort(t))
	s = Start(t, "--tls-port", port, "--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no")
	return s, "rediss://localhost:" + port, ca
}

// certificate makes a certificate of localhost that is its own authority.
func certificate(t testing.TB) (certificateFile, keyFile string, ca *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Redis of the tests"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	made, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificateFile, keyFile = filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem")
	encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made})
	write(t, certificateFile, encoded)
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	ca = x509.NewCertPool()
	if !ca.AppendCertsFromPEM(encoded) {
		t.Fatal("the certificate cannot be read")
	}
	return certificateFile, keyFile, ca
}

func write(t testing.TB, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// StartReplica starts a Redis that follows the master, and waits until it has all
// that the master has.
func StartReplica(t testing.TB, master *Server) *Server {
	t.Helper()
	// A master waits five seconds for more replicas before it sends what it has.
	if _, err := master.Do("CONFIG SET repl-diskless-sync-delay 0"); err != nil {
		t.Fatal(err)
	}
	s := Start(t, "--dir", t.TempDir(), "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port))
	s.UntilHas(t, "INFO replication", "master_link_status:up")
	return s
}

// StartSentinel starts a sentinel that watches the master by the name, takes it for
// lost once it has not answered for three seconds, and decides alone.
func StartSentinel(t testing.TB, master *Server, name string) *Server {
	t.Helper()
	port, file := freePort(t), filepath.Join(t.TempDir(), "sentinel.conf")
	write(t, file, fmt.Appendf(nil, "port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor %s 127.0.0.1 %d 1\nsentinel down-after-milliseconds %[3]s 3000\n",
		port, filepath.Dir(file), name, master.Port))
	return start(t, port, []string{file, "--sentinel"})
}

// StartCluster starts a cluster of three masters, and waits until each of them says
// that it is one.
func StartCluster(t testing.TB) []*Server {
	t.Helper()
	servers, buses := make([]*Server, 3), make([]int, 3)
	for i := range servers {
		buses[i] = freePort(t)
		servers[i] = Start(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(buses[i]), "--dir", t.TempDir())
	}
	for i, slots := range []string{"0 5460", "5461 10922", "10923 16383"} {
		must(t, servers[i], "CLUSTER ADDSLOTSRANGE "+slots)
		must(t, servers[i], fmt.Sprintf("CLUSTER SET-CONFIG-EPOCH %d", i+1))
	}
	for i := 1; i < len(servers); i++ {
		must(t, servers[0], fmt.Sprintf("CLUSTER MEET 127.0.0.1 %d %d", servers[i].Port, buses[i]))
	}
	for _, s := range servers {
		s.UntilHas(t, "CLUSTER INFO", "cluster_state:ok")
		s.UntilHas(t, "CLUSTER INFO", "cluster_known_nodes:3")
	}
	return servers
}

func must(t testing.TB, s *Server, command string) {
	t.Helper()
	if answer, err := s.Do(command); err != nil || answer != "+OK" {
		t.Fatalf("%s: %q, %v", command, answer, err)
	}
}

// Address is the host and port of the server.
func (s *Server) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// Addresses is the hosts and ports of the servers, as a URL names them.
func Addresses(servers ...*Server) string {
	all := make([]string, len(servers))
	for i, s := range servers {
		all[i] = s.Address()
	}
	return strings.Join(all, ",")
}
