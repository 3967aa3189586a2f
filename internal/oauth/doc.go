// Package oauth is the edge that speaks OAuth 2.0: the token, introspection and
// revocation endpoints and the published metadata (RFC 6749 §4.4, RFC 7662,
// RFC 7009, RFC 8414, RFC 7517, RFC 8707). It decides nothing; it reads requests
// strictly, asks the domain, and writes answers in the standards' shapes.
package oauth
