// Package docs carries the contract of the HTTP interface, docs/openapi.yaml, into
// the binary (R11). The prose beside it is for readers of the repository.
package docs

import _ "embed" // for the contract

// OpenAPI is the contract in YAML (OpenAPI 3.0.3).
//
//go:embed openapi.yaml
var OpenAPI []byte
