// Package printable is the rule of text that people read, in a list, a log or
// the record: it shows what it is, and cannot hide or turn around what stands
// beside it.
package printable
