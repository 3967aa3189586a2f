package porttest

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports are below those that systems give to outgoing connections (Linux from
// 32768, others from 49152), and above those of well-known services.
const (
	lowest  = 15_000
	highest = 32_000
	tries   = 1000
)

// ErrNone says that no free port was found.
var ErrNone = errors.New("no port is free for a test's server")

// Free gives a port of the loopback address that nobody listens on. It fails with
// ErrNone.
func Free() (int, error) {
	for range tries {
		port := lowest + rand.IntN(highest-lowest)                                     //nolint:gosec // no secret
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // to see whether it is free
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, ErrNone
}
