// Package porttest finds ports for the servers that tests start, stop and start
// again: ports that no outgoing connection of another test takes meanwhile.
package porttest
