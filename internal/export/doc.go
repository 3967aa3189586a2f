// Package export writes events for others to read: as lines of JSON that can be
// verified, as CSV (RFC 4180), and as lines of OCSF 1.3.0 for security systems
// (R4). docs/audit-format.md and docs/audit-export.md are its contract.
//
// It takes events as the log stores them and appends bytes. It reads no store and
// sends nothing; the download and the continuous streams both write by it.
package export
