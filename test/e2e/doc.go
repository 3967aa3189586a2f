// Package e2e tests the built binary from outside, as operators and clients meet
// it: over HTTP, by signals and on the command line. It is a module of its own, so
// that the clients it borrows are no dependencies of the product, and it imports
// nothing of the product.
//
// With E2E_COVERDIR set, the binary is built with coverage and writes its counters
// into that folder, to be read with go tool covdata.
package e2e
