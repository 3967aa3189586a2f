// Package scope holds OAuth scopes and the capabilities they are made of
// (RFC 6749 §3.3).
//
// A capability is `resource:action`; it is the ceiling of what an agent may ask
// for. The management scopes are the product's own: they exist like any other
// capability and are granted only when asked for by name (R36).
package scope
