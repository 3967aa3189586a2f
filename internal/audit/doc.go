// Package audit is the record of every action (R4, R35).
//
// An event is encoded once, when it is made; those bytes are what the store
// keeps and what a proof will hash. Log takes events to the store in groups: one
// transaction serves all the requests that wait, and a request is answered only
// after its event is durable. Folder keeps repeated denials from filling the
// disk. Storage is behind small interfaces; nothing here can change an event, and
// Retention alone removes some: old ones, of which another event tells.
package audit
