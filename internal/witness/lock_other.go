//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package witness

import (
	"fmt"
	"io"
	"os"
)

// lockFile would hold a file for this process. Here the system has no lock that ends
// with the process, and two witnesses with one state could sign a fork: none runs.
func lockFile(path string) (io.Closer, error) {
	return nil, fmt.Errorf("%s: this system has no lock for it: %w", path, os.ErrInvalid)
}
