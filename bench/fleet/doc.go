// Package fleet makes fleets of agents, from one to a million, directly in the
// product's database: rows as the product would have written them, with fingerprints
// of their secrets alone (SECRET_HASHER=hmac). Everything about a member follows from
// its number, so that no list of secrets has to be kept. For measurements only.
package fleet
