// Package page cuts long lists into pages by keyset cursors.
//
// A cursor names the last row a caller has seen, never an offset, so a page
// stays right while rows are added. It is opaque to callers and carries no
// authority: the tenant and the filters come from the request each time.
package page
