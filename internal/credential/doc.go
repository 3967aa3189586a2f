// Package credential holds what an agent proves its identity with (R3, R37):
// the secret and its format, how it is verified without being stored, and the
// lifecycle of several credentials per agent with overlap during rotation.
package credential
