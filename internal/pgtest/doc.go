// Package pgtest runs a real PostgreSQL for tests: on a free port, in a folder of
// its own, never as root. The server lives as long as the test binary; each test
// gets a database of its own.
package pgtest
