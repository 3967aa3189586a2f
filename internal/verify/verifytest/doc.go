// Package verifytest makes logs for tests, from the library alone and not from the
// product: events, tree, signed checkpoints, proofs and the lines of an export as
// docs/audit-format.md has them. It says nothing of whether they are right, so that
// what is wrong can be made with it, too.
package verifytest
