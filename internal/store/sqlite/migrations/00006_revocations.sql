-- +goose Up
-- What was done to many agents with one call. Places count from 1 in the order of their
-- effect; a node writes what is decided, the oldest first, under a term.
CREATE TABLE revocations (
  place           INTEGER PRIMARY KEY,
  id              TEXT NOT NULL UNIQUE CHECK (length(id) = 36),
  organization_id TEXT NOT NULL REFERENCES organizations (id),
  action          TEXT NOT NULL CHECK (action IN ('suspend', 'revoke', 'tokens', 'reactivate')),
  selector        TEXT NOT NULL,
  reason          TEXT NOT NULL,
  actor_type      TEXT NOT NULL,
  actor_id        TEXT NOT NULL,
  request_id      TEXT NOT NULL,
  source_ip       TEXT NOT NULL,
  matched         INTEGER NOT NULL,
  changed         INTEGER NOT NULL,
  written         INTEGER NOT NULL DEFAULT 0,
  reached         INTEGER NOT NULL DEFAULT 0,
  created_at      INTEGER NOT NULL,
  completed_at    INTEGER,
  undoes          TEXT,
  undone_by       TEXT,
  receipt         TEXT NOT NULL,
  term            INTEGER NOT NULL DEFAULT 1,
  holder          TEXT NOT NULL,
  forgotten       INTEGER NOT NULL DEFAULT 0 CHECK (forgotten IN (0, 1))
) STRICT;
CREATE INDEX revocations_by_time ON revocations (organization_id, created_at, id);
CREATE INDEX revocations_open    ON revocations (place) WHERE completed_at IS NULL;
CREATE INDEX revocations_kept    ON revocations (place) WHERE NOT forgotten;

-- The agents of each, in the order they are written in: what is decided for one, from when
-- its tokens hold (microseconds since 1970), and the revision it has once that is written.
-- Until n is reached, or the one is settled ahead of its turn, whoever reads the agent must
-- see what is decided as done.
CREATE TABLE revocation_agents (
  place    INTEGER NOT NULL,
  n        INTEGER NOT NULL,
  agent_id TEXT NOT NULL,
  becomes  TEXT NOT NULL CHECK (becomes IN ('', 'active', 'suspended', 'revoked')),
  since    INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  settled  INTEGER NOT NULL DEFAULT 0 CHECK (settled IN (0, 1)),
  PRIMARY KEY (place, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX revocation_agents_by_agent ON revocation_agents (agent_id, place);
