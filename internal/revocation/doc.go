// Package revocation acts on many agents with one call (R36): it suspends or revokes
// whoever a selector matches, or ends their tokens, and undoes suspensions.
//
// One transaction decides for all of them; from its commit on everybody who reads an
// agent sees what was decided as done. A Runner then writes it to the agents, in small
// transactions that any node can go on with (docs/adr/0018-revocations.md). What is
// revoked here is agents: one token is revoked by package token.
package revocation
