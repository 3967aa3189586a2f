// Command floor is the yardstick of the measurements: what issuing a token costs at
// least. It is a plain net/http server that parses the request the product parses
// (form and Basic), checks an HMAC of the secret, builds the same claims by append,
// signs with ES256 and answers in the same shape (RFC 6749 §5.1). It stores, limits,
// logs and revokes nothing, and is no identity provider.
package main
