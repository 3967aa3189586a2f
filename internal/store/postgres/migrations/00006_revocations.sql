-- +goose Up
-- What was done to many agents with one call. Places count from 1 in the order of their
-- effect; a node writes what is decided, the oldest first, under a term.
CREATE TABLE revocations (
  place           bigint PRIMARY KEY,
  id              uuid NOT NULL UNIQUE,
  organization_id uuid NOT NULL REFERENCES organizations (id),
  action          text NOT NULL CHECK (action IN ('suspend', 'revoke', 'tokens', 'reactivate')),
  selector        text NOT NULL,
  reason          text NOT NULL,
  actor_type      text NOT NULL,
  actor_id        text NOT NULL,
  request_id      text NOT NULL,
  source_ip       text NOT NULL,
  matched         bigint NOT NULL,
  changed         bigint NOT NULL,
  written         bigint NOT NULL DEFAULT 0,
  reached         bigint NOT NULL DEFAULT 0,
  created_at      timestamptz NOT NULL,
  completed_at    timestamptz,
  undoes          uuid,
  undone_by       uuid,
  receipt         text NOT NULL,
  term            bigint NOT NULL DEFAULT 1,
  holder          text NOT NULL,
  forgotten       boolean NOT NULL DEFAULT false
);
CREATE INDEX revocations_by_time ON revocations (organization_id, created_at, id);
CREATE INDEX revocations_open    ON revocations (place) WHERE completed_at IS NULL;
CREATE INDEX revocations_kept    ON revocations (place) WHERE NOT forgotten;

-- The agents of each, in the order they are written in: what is decided for one, from when
-- its tokens hold (microseconds since 1970), and the revision it has once that is written.
-- Until n is reached, or the one is settled ahead of its turn, whoever reads the agent must
-- see what is decided as done.
CREATE TABLE revocation_agents (
  place    bigint NOT NULL,
  n        bigint NOT NULL,
  agent_id uuid NOT NULL,
  becomes  text NOT NULL CHECK (becomes IN ('', 'active', 'suspended', 'revoked')),
  since    bigint NOT NULL,
  revision bigint NOT NULL,
  settled  boolean NOT NULL DEFAULT false,
  PRIMARY KEY (place, n)
);
CREATE INDEX revocation_agents_by_agent ON revocation_agents (agent_id, place);
