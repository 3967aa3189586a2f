// Package token authenticates clients, issues access tokens and tells whether
// one still holds (R2; RFC 9068, RFC 7662, RFC 7009).
//
// It authenticates optimistically, from a cache, and commits pessimistically: the
// transaction that records a token checks that what the decision rested on is
// still so. A cache here is for speed alone; no answer rests on it unproven.
package token
