// Package httpd is everything around the endpoints (R38, R39): the router, the
// middleware every request passes in one order, the health endpoints, and the
// server that bounds slow clients and drains gracefully.
package httpd
