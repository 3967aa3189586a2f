// Package leak answers secrets that are where they must not be (R36): reports of those
// that others found, signed as the secret-scanning partner programmes of the big hosts
// sign them, questions about those that one found oneself, and canaries, which nobody
// should ever use. It fetches nothing: the keys of reporters are configured.
package leak
