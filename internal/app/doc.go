// Package app puts the product together: every constructor is called once, in
// wire.go, and run.go starts, drains and stops what they made. It is the only
// place that sees two edges at once.
package app
