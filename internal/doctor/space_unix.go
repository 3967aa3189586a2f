//go:build darwin || freebsd || linux

package doctor

import "syscall"

// Space gives the free and all bytes of the file system that holds a path, as a user that
// is not root sees them.
func Space(path string) (free, all uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, 0, err
	}
	size := uint64(s.Bsize)                                                     //nolint:gosec // never negative
	return uint64(max(0, int64(s.Bavail))) * size, uint64(s.Blocks) * size, nil //nolint:gosec,unconvert // of another type elsewhere
}
