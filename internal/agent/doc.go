// Package agent is the registry: what an agent is, which rules its fields keep,
// and its lifecycle (R1, R27). It knows nothing of HTTP and SQL; the store it
// needs stands beside it as an interface.
package agent
