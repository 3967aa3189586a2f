-- +goose Up
CREATE TABLE organizations (
  id                    TEXT PRIMARY KEY CHECK (length(id) = 36),
  name                  TEXT NOT NULL UNIQUE,
  display_name          TEXT NOT NULL DEFAULT '',
  max_agents            INTEGER CHECK (max_agents > 0),
  token_rate_per_minute INTEGER CHECK (token_rate_per_minute > 0),
  audit_retention_days  INTEGER CHECK (audit_retention_days > 0),
  audit_introspection   INTEGER NOT NULL DEFAULT 0 CHECK (audit_introspection IN (0, 1)),
  created_at            INTEGER NOT NULL,
  updated_at            INTEGER NOT NULL,
  revision              INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX organizations_by_time ON organizations (created_at, id);
INSERT INTO organizations (id, name, display_name, created_at, updated_at)
VALUES ('00000000-0000-4000-8000-000000000001', 'default', 'Operator',
        CAST(unixepoch('subsec') * 1000000 AS INTEGER), CAST(unixepoch('subsec') * 1000000 AS INTEGER));

-- Raised in the transaction of every registry change: while it stands still,
-- every cached agent and credential still holds.
CREATE TABLE change_counter (value INTEGER NOT NULL) STRICT;
INSERT INTO change_counter VALUES (1);

CREATE TABLE agents (
  id                 TEXT PRIMARY KEY CHECK (length(id) = 36),
  organization_id    TEXT NOT NULL REFERENCES organizations (id),
  email              TEXT NOT NULL,
  agent_type         TEXT NOT NULL,
  version            TEXT NOT NULL,
  capabilities       TEXT NOT NULL,
  owner              TEXT NOT NULL,
  deployment_env     TEXT NOT NULL CHECK (deployment_env IN ('development', 'staging', 'production')),
  status             TEXT NOT NULL CHECK (status IN ('active', 'suspended', 'revoked', 'archived')),
  metadata           TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
  token_ttl          INTEGER NOT NULL DEFAULT 0,
  created_at         INTEGER NOT NULL,
  updated_at         INTEGER NOT NULL,
  last_auth_at       INTEGER,
  tokens_valid_after INTEGER,
  revision           INTEGER NOT NULL DEFAULT 1,
  UNIQUE (organization_id, email)
) STRICT;
CREATE INDEX agents_by_time       ON agents (organization_id, created_at, id);
CREATE INDEX agents_by_status     ON agents (organization_id, status, created_at, id);
CREATE INDEX agents_by_type       ON agents (organization_id, agent_type, created_at, id);
CREATE INDEX agents_by_owner      ON agents (organization_id, owner, created_at, id);
CREATE INDEX agents_by_deployment ON agents (organization_id, deployment_env, created_at, id);

CREATE TABLE agent_capabilities (
  agent_id        TEXT NOT NULL REFERENCES agents (id),
  organization_id TEXT NOT NULL,
  capability      TEXT NOT NULL,
  created_at      INTEGER NOT NULL,
  status          TEXT NOT NULL, -- the agent's, so that the index alone finds the few that are asked for
  PRIMARY KEY (agent_id, capability)
) STRICT, WITHOUT ROWID;
CREATE INDEX agent_capabilities_by_time ON agent_capabilities (organization_id, capability, created_at, agent_id, status);

CREATE TABLE credentials (
  id              TEXT PRIMARY KEY CHECK (length(id) = 36),
  agent_id        TEXT NOT NULL REFERENCES agents (id),
  organization_id TEXT NOT NULL,
  key_id          TEXT NOT NULL UNIQUE,
  label           TEXT NOT NULL DEFAULT '',
  bcrypt          BLOB,
  fingerprint     BLOB NOT NULL,
  fingerprint_key TEXT NOT NULL,
  created_at      INTEGER NOT NULL,
  expires_at      INTEGER,
  revoked_at      INTEGER,
  last_used_at    INTEGER,
  rotated_from    TEXT,
  revision        INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX credentials_by_agent ON credentials (agent_id, created_at, id);
CREATE INDEX credentials_live     ON credentials (agent_id, revoked_at, expires_at);

CREATE TABLE revoked_tokens (
  jti        TEXT PRIMARY KEY,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX revoked_tokens_by_expiry ON revoked_tokens (expires_at);

-- Requests that may be repeated without being carried out twice.
CREATE TABLE idempotency_keys (
  caller_id  TEXT NOT NULL,
  key        TEXT NOT NULL,
  request    BLOB NOT NULL,
  made       TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (caller_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);

CREATE TABLE signing_keys (
  kid          TEXT PRIMARY KEY,
  alg          TEXT NOT NULL,
  sealed       BLOB NOT NULL,
  public_jwk   BLOB NOT NULL,
  created_at   INTEGER NOT NULL,
  activates_at INTEGER NOT NULL,
  retires_at   INTEGER
) STRICT;

CREATE TABLE audit_head (sequence INTEGER NOT NULL) STRICT;
INSERT INTO audit_head VALUES (0);

-- body holds the event's canonical bytes; the other columns are there to be searched.
CREATE TABLE audit_events (
  sequence        INTEGER PRIMARY KEY,
  id              TEXT NOT NULL UNIQUE,
  organization_id TEXT NOT NULL,
  time            INTEGER NOT NULL,
  agent_id        TEXT,
  actor_id        TEXT NOT NULL,
  action          TEXT NOT NULL,
  outcome         TEXT NOT NULL,
  body            BLOB NOT NULL
) STRICT;
CREATE INDEX audit_events_by_time    ON audit_events (organization_id, time, id);
CREATE INDEX audit_events_by_agent   ON audit_events (organization_id, agent_id, time, id);
CREATE INDEX audit_events_by_actor   ON audit_events (organization_id, actor_id, time, id, action, outcome);
CREATE INDEX audit_events_by_action  ON audit_events (organization_id, action, time, id);
CREATE INDEX audit_events_by_outcome ON audit_events (organization_id, outcome, time, id);

-- +goose StatementBegin
CREATE TRIGGER audit_events_no_update BEFORE UPDATE ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit events cannot be changed'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit events cannot be deleted'); END;
-- +goose StatementEnd
-- +goose StatementBegin
-- INSERT OR REPLACE would remove a row without a word to the DELETE trigger.
CREATE TRIGGER audit_events_no_replace BEFORE INSERT ON audit_events
WHEN EXISTS (SELECT 1 FROM audit_events WHERE sequence = new.sequence OR id = new.id)
BEGIN SELECT RAISE(ABORT, 'audit events cannot be replaced'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_head_only_grows BEFORE UPDATE ON audit_head WHEN new.sequence <= old.sequence
BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_head_no_delete BEFORE DELETE ON audit_head
BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;
-- +goose StatementEnd
