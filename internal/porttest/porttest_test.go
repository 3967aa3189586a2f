package porttest_test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"

	"git.sentryagent.ai/sentryagent-idp/internal/porttest"
)

// A server that was killed finds its port free again, however many clients connect
// meanwhile.
func TestAFreePortIsNotOneOfThoseThatConnectionsTake(t *testing.T) {
	first, last := 32768, 60999
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		port, err := porttest.Free()
		if err != nil {
			t.Fatal(err)
		}
		if port >= first && port <= last {
			t.Errorf("port %d is one of %d to %d", port, first, last)
		}
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
