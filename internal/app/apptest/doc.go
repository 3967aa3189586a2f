// Package apptest runs the whole product for tests: on a fresh embedded database,
// behind a real listener, with a clock that tests can move. Every exchange is held
// against the contract, docs/openapi.yaml, and HTTP scripts (script.go) tell what
// should happen in a form that reads as documentation.
package apptest
