// Package idempotency lets a caller repeat a request that makes something, because
// the answer was lost, without making it twice. A claim travels in the request's
// context to the transaction that makes the thing, and is written there. What was
// secret in the first answer is not kept, and so not given again.
package idempotency
