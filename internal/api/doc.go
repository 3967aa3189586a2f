// Package api is the edge that serves the management API (R5): organizations,
// agents, credentials and the audit log, as docs/openapi.yaml describes them. It
// reads requests strictly, finds out who calls and in which tenant, and leaves
// every decision to the domain.
package api
