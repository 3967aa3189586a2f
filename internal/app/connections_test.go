package app_test

import (
	"bufio"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// TestMoreConnectionsThanMayBeOpenWaitUntilOneIsClosed: what holds connections open
// cannot fill the memory (R38).
func TestMoreConnectionsThanMayBeOpenWaitUntilOneIsClosed(t *testing.T) {
	contract, err := apptest.LoadContract()
	if err != nil {
		t.Fatal(err)
	}
	s := apptest.Start(t, contract, "MAX_CONNECTIONS=2")
	address, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() (net.Conn, <-chan error) {
		conn, err := net.Dial("tcp", address.Host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := conn.Write([]byte("GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		answered := make(chan error, 1)
		go func() {
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err == nil {
				err = resp.Body.Close()
			}
			answered <- err
		}()
		return conn, answered
	}
	first, one := ask()
	_, two := ask()
	for _, answered := range []<-chan error{one, two} {
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
	}
	_, three := ask()
	select {
	case err := <-three:
		t.Fatalf("a third connection was answered: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	_ = first.Close()
	if err := <-three; err != nil {
		t.Errorf("the third was not answered when there was room: %v", err)
	}
}
