package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the kernel's unit of CPU time in /proc, the same on every Linux.
const tick = 10 * time.Millisecond

type stat struct {
	parent int
	cpu    time.Duration
}

func read(pid int) (stat, error) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, err
	}
	text := string(raw)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const parent, utime, cstime = 1, 11, 14 // after the name, which may hold spaces
	if len(fields) <= cstime {
		return stat{}, fmt.Errorf("the stat of process %d is not understood", pid)
	}
	var s stat
	if s.parent, err = strconv.Atoi(fields[parent]); err != nil {
		return stat{}, err
	}
	for _, f := range fields[utime : cstime+1] { // its own, and that of children that have ended
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return stat{}, err
		}
		s.cpu += time.Duration(n) * tick
	}
	return s, nil
}

// CPU gives the CPU time of the processes and of their children, in the kernel's
// ticks of 10 ms.
func CPU(pids ...int) (time.Duration, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		s, err := read(pid)
		if err != nil {
			continue // it has ended since
		}
		if slices.Contains(pids, pid) || slices.Contains(pids, s.parent) {
			total += s.cpu
		}
	}
	return total, nil
}

// Resident gives the resident memory of a process in bytes.
func Resident(pid int) (int64, error) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no resident memory", pid)
}

// Sync gives the median time of n appends of 4 KiB with fdatasync to a file in dir.
func Sync(dir string, n int) (median time.Duration, err error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer func() { _ = f.Close() }()
	took := make([]time.Duration, n)
	page := make([]byte, 4<<10)
	for i := range took {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[n/2], nil
}
