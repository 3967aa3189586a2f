// Package limit bounds how often something may happen, by token buckets held in
// this process (R38), and how much may happen at once, by a gate. Its memory is bounded:
// full buckets are forgotten, and when there are too many the whole table is, which errs
// on the side of serving.
package limit
