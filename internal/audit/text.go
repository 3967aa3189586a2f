package audit

// AppendText appends s as a JSON string (RFC 8259 §7) in the canonical form: no more
// is escaped than must be, and bytes that are not UTF-8 become U+FFFD.
func AppendText(b []byte, s string) []byte { return appendText(b, s) }
