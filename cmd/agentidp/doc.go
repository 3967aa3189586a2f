// Command agentidp is the identity provider for AI agents: the server, and the
// commands an operator works with. One small file holds each command; what they
// do is in the packages they call.
package main
