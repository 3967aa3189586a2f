-- +goose Up
-- How far each continuous stream of the record has been delivered.
CREATE TABLE audit_streams (
  name     text PRIMARY KEY,
  sequence bigint NOT NULL CHECK (sequence > 0)
);
