package outbound_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/outbound"
)

// proxyHits counts what asked the proxy that the environment names.
var proxyHits atomic.Int64

// TestMain names a proxy before anything reads the environment, which the standard
// library does once.
func TestMain(m *testing.M) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxyHits.Add(1) }))
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		if err := os.Setenv(name, proxy.URL); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	proxy.Close()
	os.Exit(code)
}

func get(t *testing.T, c *outbound.Client, address string) (*outbound.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Do(req)
}

func refused(t *testing.T, c *outbound.Client, address string) {
	t.Helper()
	if resp, err := get(t, c, address); !errors.Is(err, outbound.ErrRefused) {
		t.Errorf("%s: %v, %v", address, resp, err)
	}
}

// server counts its requests.
func server(t *testing.T, handler http.HandlerFunc) (s *httptest.Server, hits *atomic.Int64) {
	t.Helper()
	hits = &atomic.Int64{}
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		handler(w, r)
	}))
	t.Cleanup(s.Close)
	return s, hits
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

func TestLoopbackIsFetchedForTheOperatorAlone(t *testing.T) {
	s, hits := server(t, ok)
	resp, err := get(t, outbound.New(outbound.Config{Loopback: true}), s.URL)
	if err != nil || resp.Status != http.StatusOK || string(resp.Body) != "ok" {
		t.Errorf("for the operator: %+v, %v", resp, err)
	}
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	everything := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	for _, c := range []*outbound.Client{outbound.New(outbound.Config{}), outbound.New(outbound.Config{Allow: everything})} {
		for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "127.0.0.1.", "0.0.0.0", "[::]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "017700000001", "0177.0.0.1", "１２７.0.0.1"} {
			u := &url.URL{Scheme: "https", Host: host + port, Path: "/"}
			refused(t, c, u.String())
			u.Scheme = "http"
			refused(t, c, u.String())
		}
	}
	if hits.Load() != 1 {
		t.Errorf("%d requests came through", hits.Load())
	}
}

func TestAURLThatIsNotPlainIsRefused(t *testing.T) {
	c := outbound.New(outbound.Config{Loopback: true})
	for _, address := range []string{
		"ftp://example.com/", "file:///etc/passwd", "gopher://127.0.0.1/", "https:///x", "https:example.com", "//example.com/",
		"https://user@example.com/", "https://user:password@example.com/", "https://127.0.0.1@example.com/", "https://[fe80::1%25eth0]/",
		"http://example.com/", "http://192.0.2.1/", "https://169.254.169.254/latest/meta-data/", "https://[fd00:ec2::254]/", "https://10.0.0.1/",
		"https://2852039166/", "https://0xA9FEA9FE/", "https://0251.0376.0251.0376/", "https://1/", "https://0x/", "https://1.2.3.4.5/",
	} {
		refused(t, c, address)
	}
	for _, address := range []string{"https://example.com/a?b", "https://8.8.8.8/", "http://localhost:1/", "http://127.0.0.1/", "https://[2606:4700::1111]/", "https://0xfeed.example/", "https://1.example/"} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(u); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	plain, err := url.Parse("http://10.0.0.1/")
	if err != nil {
		t.Fatal(err)
	}
	if err := outbound.New(outbound.Config{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}).Check(plain); err != nil {
		t.Errorf("http in an allowed network: %v", err)
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	secret, reached := server(t, ok)
	for _, target := range []string{secret.URL, "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd"} {
		s, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
		})
		resp, err := get(t, outbound.New(outbound.Config{Loopback: true}), s.URL)
		if err != nil || resp.Status != http.StatusTemporaryRedirect {
			t.Errorf("redirect to %s: %+v, %v", target, resp, err)
		}
	}
	if reached.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// A name that anybody can register may point anywhere.
func TestAnAnswerOfDNSThatPointsInwardIsRefused(t *testing.T) {
	s, hits := server(t, ok)
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	for _, points := range []string{"127.0.0.1", "169.254.169.254", "10.0.0.1", "0.0.0.0", "::1", "fd00:ec2::254", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"} {
		resolver := dns(t, netip.MustParseAddr(points))
		for _, cfg := range []outbound.Config{{Resolver: resolver}, {Resolver: resolver, Loopback: true}} {
			refused(t, outbound.New(cfg), "https://inward.example"+port)
		}
	}
	if hits.Load() != 0 {
		t.Error("a request came through")
	}
}

// The one that is right: a name, resolved into an allowed network, with a certificate.
func TestAnAllowedNetworkIsReachedByName(t *testing.T) {
	address := ownAddress(t)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(address.String(), "0"))
	if err != nil {
		t.Skip("this machine cannot listen on ", address, ": ", err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(ok))
	_ = s.Listener.Close()
	s.Listener = l
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cfg := outbound.Config{Resolver: dns(t, address), RootCAs: roots, Allow: []netip.Prefix{netip.PrefixFrom(address, address.BitLen())}}
	resp, err := get(t, outbound.New(cfg), "https://example.com:"+port)
	if err != nil || string(resp.Body) != "ok" {
		t.Errorf("allowed: %+v, %v", resp, err)
	}
	cfg.RootCAs = nil
	if resp, err := get(t, outbound.New(cfg), "https://example.com:"+port); err == nil {
		t.Errorf("an unknown authority was believed: %+v", resp)
	}
	cfg.RootCAs, cfg.Allow = roots, nil
	if resp, err := get(t, outbound.New(cfg), "https://example.com:"+port); err == nil {
		t.Errorf("a network that was not allowed was reached: %+v", resp)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(ok))
	s.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	if resp, err := get(t, outbound.New(outbound.Config{Loopback: true, RootCAs: roots}), s.URL); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("TLS 1.1: %+v, %v", resp, err)
	}
}

func TestAProxyOfTheEnvironmentIsNotAsked(t *testing.T) {
	c := outbound.New(outbound.Config{Loopback: true, Resolver: dns(t, netip.MustParseAddr("10.0.0.1"))})
	refused(t, c, "https://somewhere.example/")
	if proxyHits.Load() != 0 {
		t.Error("the proxy was asked")
	}
}

func TestAnAnswerIsBounded(t *testing.T) {
	sizes := map[string]int{"/exact": 1000, "/more": 1001}
	s, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		case "/headers":
			w.Header().Set("X-Long", strings.Repeat("x", 64<<10))
		default:
			_, _ = w.Write(make([]byte, sizes[r.URL.Path]))
		}
	})
	c := outbound.New(outbound.Config{Loopback: true, MaxBody: 1000})
	if resp, err := get(t, c, s.URL+"/exact"); err != nil || len(resp.Body) != 1000 {
		t.Errorf("an answer of just the bound: %v", err)
	}
	for _, path := range []string{"/more", "/endless"} {
		if resp, err := get(t, c, s.URL+path); !errors.Is(err, outbound.ErrTooLarge) || resp == nil || resp.Status != http.StatusOK || resp.Body != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := get(t, c, s.URL+"/headers"); err == nil {
		t.Error("64 KiB of headers were read")
	}
}

// Servers that never end are left: one that says nothing, one that drips headers'
// bytes, one that drips a body.
func TestASlowServerIsLeft(t *testing.T) {
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	s, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/drip" {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	})
	c := outbound.New(outbound.Config{Loopback: true, Timeout: 200 * time.Millisecond})
	for _, address := range []string{"http://" + silent.Addr().String(), "https://" + silent.Addr().String(), s.URL + "/silent", s.URL + "/drip"} {
		var late net.Error
		if resp, err := get(t, c, address); !errors.As(err, &late) || !late.Timeout() {
			t.Errorf("%s: %v, %v", address, resp, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := outbound.New(outbound.Config{Loopback: true}).Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled request: %v", err)
	}
}

// ownAddress is an address of this machine that is not loopback.
func ownAddress(t *testing.T) netip.Addr {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is4() && (p.Addr().IsPrivate() || netip.MustParsePrefix("192.0.2.0/24").Contains(p.Addr())) {
			return p.Addr()
		}
	}
	t.Skip("this machine has no private address")
	return netip.Addr{}
}

// dns starts a name server that answers every question with one address, and gives a
// resolver that asks it.
func dns(t *testing.T, address netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		query := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			if n > 12 {
				_, _ = conn.WriteTo(answer(query[:n], address), from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// answer is the reply to a query of one question (RFC 1035 §4).
func answer(query []byte, address netip.Addr) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	question := query[12 : end+5]
	kind := binary.BigEndian.Uint16(query[end+1:])
	records := uint16(0)
	if kind == 1 && address.Is4() || kind == 28 && !address.Is4() {
		records = 1
	}
	reply := append([]byte{}, query[:2]...)
	reply = append(reply, 0x81, 0x80, 0, 1)
	reply = binary.BigEndian.AppendUint16(reply, records)
	reply = append(reply, 0, 0, 0, 0)
	reply = append(reply, question...)
	if records == 0 {
		return reply
	}
	reply = append(reply, 0xc0, 12)
	reply = binary.BigEndian.AppendUint16(reply, kind)
	reply = append(reply, 0, 1, 0, 0, 0, 1)
	raw := address.AsSlice()
	reply = binary.BigEndian.AppendUint16(reply, uint16(len(raw)))
	return append(reply, raw...)
}
