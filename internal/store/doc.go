// Package store keeps everything in a relational database: one SQL text,
// written in PostgreSQL's style, for every engine. A Dialect holds the few things
// in which engines differ; the sub-packages make one and own their schema.
//
// Every write runs in a transaction that also appends its audit event and, where
// it changes the registry, raises the change counter.
package store
