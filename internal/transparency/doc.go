// Package transparency makes the record one that outsiders can check: it puts the
// committed events in order into a Merkle tree (RFC 6962 §2.1), signs what the tree
// stands at (C2SP tlog-checkpoint), and proves to anybody that an event is in it and
// that it only ever grew. docs/audit-format.md is its contract.
package transparency
