// Package request carries what the outermost middleware learns of an HTTP
// request (its id, where it comes from, what the log line will say) to the edges
// that handle it.
package request
