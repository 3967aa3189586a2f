-- +goose Up
-- How far each continuous stream of the record has been delivered.
CREATE TABLE audit_streams (
  name     TEXT PRIMARY KEY,
  sequence INTEGER NOT NULL CHECK (sequence > 0)
) STRICT;
