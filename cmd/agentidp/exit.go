package main

import "errors"

// exitError ends a command with a code of its own, for scripts. Every other error is 1.
type exitError struct {
	code int
	err  error
}

// Error is that of the cause.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *exitError) Unwrap() error { return e.err }

// exitCode is what the process ends with.
func exitCode(err error) int {
	if e := (*exitError)(nil); errors.As(err, &e) {
		return e.code
	}
	if err != nil {
		return 1
	}
	return 0
}
