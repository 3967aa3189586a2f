// Package outbound is the one way out of the product: the HTTP client of everything
// that asks somebody else's server, such as witnesses and webhooks. An address is
// judged when it is dialled, after names were resolved, so that neither a URL nor a
// DNS answer nor a redirect can point it at what is inside (SSRF). Everything it
// waits for has a time-out, and everything it reads a bound.
package outbound
