// Package postgres is the engine for several nodes: PostgreSQL 14 or newer, reached
// by pgx. The schema belongs to an owner who migrates it; the server may work as a
// lesser role, which cannot change the record.
package postgres
