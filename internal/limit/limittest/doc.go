// Package limittest is the suite that every set of token buckets must pass,
// whether its clock can be moved or not.
package limittest
