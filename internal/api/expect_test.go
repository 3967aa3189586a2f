package api_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"git.sentryagent.ai/sentryagent-idp/internal/app/apptest"
)

// Who asks before it sends a body that is too long is not invited to send it
// (RFC 9110 §10.1.1); who asks before any other is.
func TestABodyThatIsSaidToBeTooLongIsRefusedBeforeItIsSent(t *testing.T) {
	s := apptest.Start(t, contract)
	bearer := s.Admin()
	for path, media := range map[string]string{"/oauth2/token": "application/x-www-form-urlencoded", "/agents": "application/json"} {
		for length, want := range map[int]int{1 << 30: http.StatusRequestEntityTooLarge, 10: http.StatusContinue} {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n",
				path, bearer, media, length); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, fmt.Sprintf("HTTP/1.1 %d ", want)) {
				t.Errorf("%s with %d bytes: %q, %v, want %d", path, length, line, err, want)
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
