// Package verify checks the record without trusting who holds it: an export, one
// proof, and that the log grew since the checkpoint it showed last time. It does
// what docs/audit-format.md says under "How to verify" and no more, reads an export
// once, and needs the same memory for any number of events. What it finds wrong is a
// *Failure that names the first wrong event; any other error says that nothing could
// be said. It asks nobody anything: what comes over the network is handed to it.
package verify
