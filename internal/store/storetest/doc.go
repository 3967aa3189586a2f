// Package storetest is the conformance suite of the store: what every engine
// must do for the domain packages, tested through their Store interfaces alone.
//
// An engine's own test calls Run with a function that opens an empty, migrated
// database. The suite holds no SQL, reads no clock and never sleeps.
package storetest
