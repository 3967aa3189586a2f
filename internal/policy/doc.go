// Package policy decides what a caller may do (R36): which scopes an agent may
// get, and what a caller may hand out to others. The Decider is an interface so
// that a policy engine can stand in its place.
package policy
