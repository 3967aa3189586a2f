// Package stream sends the record on as it grows (R4): to a file, to a syslog
// server (RFC 5424 over TLS, RFC 5425) and to a webhook (Standard Webhooks).
//
// A Runner delivers for one sink: in order, each event at least once, from where it
// stood when it was stopped; it never passes an event that was not taken. Where
// events come from and where positions are kept it asks by small interfaces.
// docs/audit-export.md tells receivers what they may rely on.
package stream
