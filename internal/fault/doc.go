// Package fault holds the kinds of failure the product knows and their stable
// codes (R32).
//
// A domain package returns a *fault.Error for everything a caller can act on;
// any other error is internal, and its text stays in the log. How a kind looks
// on the wire is not decided here: the api and oauth edges each own one table.
package fault
