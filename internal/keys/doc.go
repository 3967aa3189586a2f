// Package keys makes, guards and rotates the signing keys, and derives the
// server's other keys from its root secret (RFC 5869, RFC 7517, RFC 7638).
//
// A key has no stored state, only times: it is published when it is made, signs
// from ActivatesAt until another takes over, and leaves the key set at RetiresAt,
// when the last token it signed has expired.
package keys
