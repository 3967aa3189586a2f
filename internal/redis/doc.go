// Package redis shares between nodes what only speed and fairness rest on: the
// token buckets of the rate limits, and the news that an agent or a credential was
// changed (R7). Nothing that must be right rests on it. When Redis is away every
// node goes on alone, and is not slowed by it.
package redis
