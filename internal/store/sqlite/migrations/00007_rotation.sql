-- +goose Up
-- How the credentials of an organization's agents are rotated: those of one type, or
-- under * those of all types that have no policy of their own.
CREATE TABLE rotation_policies (
  organization_id TEXT NOT NULL REFERENCES organizations (id),
  agent_type      TEXT NOT NULL,
  max_age         INTEGER CHECK (max_age > 0),
  overlap         INTEGER NOT NULL CHECK (overlap >= 0),
  warn_before     TEXT NOT NULL,
  self_rotation   INTEGER NOT NULL CHECK (self_rotation IN (0, 1)),
  on_leak         TEXT NOT NULL CHECK (on_leak IN ('revoke', 'suspend')),
  updated_at      INTEGER NOT NULL,
  revision        INTEGER NOT NULL,
  -- How far the policy has been applied to the credentials that were there before it.
  applied         INTEGER NOT NULL CHECK (applied IN (0, 1)),
  applied_time    INTEGER,
  applied_id      TEXT,
  PRIMARY KEY (organization_id, agent_type)
) STRICT, WITHOUT ROWID;
CREATE INDEX rotation_policies_to_apply ON rotation_policies (organization_id, agent_type) WHERE NOT applied;

-- not_after is an end that somebody set, which no rotation moves; pending marks a
-- successor that its agent made and has not used yet; warn_at is when the scheduler has
-- to look at the credential again, and warned the last warning, in seconds before the end.
ALTER TABLE credentials ADD COLUMN not_after INTEGER;
ALTER TABLE credentials ADD COLUMN pending INTEGER NOT NULL DEFAULT 0 CHECK (pending IN (0, 1));
ALTER TABLE credentials ADD COLUMN canary INTEGER NOT NULL DEFAULT 0 CHECK (canary IN (0, 1));
ALTER TABLE credentials ADD COLUMN refused_until INTEGER;
ALTER TABLE credentials ADD COLUMN retire_after INTEGER CHECK (retire_after > 0);
ALTER TABLE credentials ADD COLUMN retire_since INTEGER;
ALTER TABLE credentials ADD COLUMN warn_at INTEGER;
ALTER TABLE credentials ADD COLUMN warned INTEGER;
UPDATE credentials SET not_after = expires_at WHERE expires_at IS NOT NULL;
UPDATE credentials SET warn_at = created_at WHERE revoked_at IS NULL AND expires_at > (SELECT now FROM database_clock);
CREATE INDEX credentials_by_expiry ON credentials (organization_id, expires_at, id) WHERE revoked_at IS NULL;
CREATE INDEX credentials_to_warn   ON credentials (warn_at, id) WHERE warn_at IS NOT NULL;
CREATE INDEX credentials_pending   ON credentials (id) WHERE pending;
CREATE INDEX credentials_to_retire ON credentials (id) WHERE retire_after IS NOT NULL;

-- When each instance of an agent used a credential last.
CREATE TABLE credential_instances (
  credential_id TEXT NOT NULL REFERENCES credentials (id),
  instance      TEXT NOT NULL,
  named         INTEGER NOT NULL CHECK (named IN (0, 1)),
  first_used_at INTEGER NOT NULL,
  last_used_at  INTEGER NOT NULL,
  PRIMARY KEY (credential_id, instance, named)
) STRICT, WITHOUT ROWID;
CREATE INDEX credential_instances_by_time ON credential_instances (last_used_at);
