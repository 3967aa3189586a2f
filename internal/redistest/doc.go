// Package redistest runs a real Redis for tests, on a free port and without a
// disk.
package redistest
