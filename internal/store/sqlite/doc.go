// Package sqlite is the embedded engine: one file, one writer, many readers,
// every commit synced to disk (journal_mode=WAL, synchronous=FULL).
package sqlite
