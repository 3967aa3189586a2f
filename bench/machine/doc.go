// Package machine reads what the kernel knows of processes and disks: CPU time, the
// children of a process, resident memory, and how long an fdatasync takes. Linux only.
package machine
