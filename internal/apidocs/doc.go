// Package apidocs serves the contract, as YAML and as JSON, and Swagger UI to read
// and try it (R11). All of it comes from the binary; the pages need no other host
// and run no inline script.
package apidocs
