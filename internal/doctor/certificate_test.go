package doctor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// certifies gives the installation a certificate for a host that ends after some time.
func certifies(host string, from, to time.Duration) func(*testing.T, *installation) {
	return func(t *testing.T, in *installation) {
		t.Helper()
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to)}
		cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		in.write(t, in.path("cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})), 0o644)
		in.write(t, in.path("key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), 0o600)
		certificateFiles(in.path("cert.pem"), in.path("key.pem"))(t, in)
	}
}

// TestTheDoctorReadsTheCertificate that clients are shown.
func TestTheDoctorReadsTheCertificate(t *testing.T) {
	const host, hour, day = "idp.example.com", time.Hour, 24 * time.Hour
	in := embedded(t)
	certifies(host, -hour, 90*day)(t, in)
	if report := in.examine(t); !report.Sound {
		t.Fatalf("something is wrong with a good certificate:\n%s", said(report))
	}
	faults := map[string]fault{
		"one that has ended":     {certifies(host, -2*hour, -hour), "certificate", "ended at"},
		"one that ends soon":     {certifies(host, -hour, 5*day+hour), "certificate", "ends in 5 days"},
		"one that is to begin":   {certifies(host, hour, 90*day), "certificate", "is not valid before"},
		"one of another host":    {certifies("idp.example.net", -hour, 90*day), "certificate", "idp.example.com"},
		"a key that all may use": {nil, "files", "key.pem may be read"},
	}
	open := faults["a key that all may use"]
	open.plant = func(t *testing.T, in *installation) {
		t.Helper()
		certifies(host, -hour, 90*day)(t, in)
		in.write(t, in.path("key.pem"), "", 0o644)
	}
	faults["a key that all may use"] = open
	undo := map[string]func(*testing.T, *installation){}
	for name := range faults {
		undo[name] = certifies(host, -hour, 90*day)
	}
	finds(t, in, faults, undo)
}
