-- +goose Up
-- How the credentials of an organization's agents are rotated: those of one type, or
-- under * those of all types that have no policy of their own.
CREATE TABLE rotation_policies (
  organization_id uuid NOT NULL REFERENCES organizations (id),
  agent_type      text NOT NULL,
  max_age         bigint CHECK (max_age > 0),
  overlap         bigint NOT NULL CHECK (overlap >= 0),
  warn_before     text NOT NULL,
  self_rotation   boolean NOT NULL,
  on_leak         text NOT NULL CHECK (on_leak IN ('revoke', 'suspend')),
  updated_at      timestamptz NOT NULL,
  revision        bigint NOT NULL,
  -- How far the policy has been applied to the credentials that were there before it.
  applied         boolean NOT NULL,
  applied_time    timestamptz,
  applied_id      uuid,
  PRIMARY KEY (organization_id, agent_type)
);
CREATE INDEX rotation_policies_to_apply ON rotation_policies (organization_id, agent_type) WHERE NOT applied;

-- not_after is an end that somebody set, which no rotation moves; pending marks a
-- successor that its agent made and has not used yet; warn_at is when the scheduler has
-- to look at the credential again, and warned the last warning, in seconds before the end.
ALTER TABLE credentials
  ADD COLUMN not_after     timestamptz,
  ADD COLUMN pending       boolean NOT NULL DEFAULT false,
  ADD COLUMN canary        boolean NOT NULL DEFAULT false,
  ADD COLUMN refused_until timestamptz,
  ADD COLUMN retire_after  bigint CHECK (retire_after > 0),
  ADD COLUMN retire_since  timestamptz,
  ADD COLUMN warn_at       timestamptz,
  ADD COLUMN warned        bigint;
UPDATE credentials SET not_after = expires_at, warn_at = CASE WHEN revoked_at IS NULL AND expires_at > now() THEN created_at END
  WHERE expires_at IS NOT NULL;
CREATE INDEX credentials_by_expiry ON credentials (organization_id, expires_at, id) WHERE revoked_at IS NULL;
CREATE INDEX credentials_to_warn   ON credentials (warn_at, id) WHERE warn_at IS NOT NULL;
CREATE INDEX credentials_pending   ON credentials (id) WHERE pending;
CREATE INDEX credentials_to_retire ON credentials (id) WHERE retire_after IS NOT NULL;

-- When each instance of an agent used a credential last.
CREATE TABLE credential_instances (
  credential_id uuid NOT NULL REFERENCES credentials (id),
  instance      text NOT NULL,
  named         boolean NOT NULL,
  first_used_at timestamptz NOT NULL,
  last_used_at  timestamptz NOT NULL,
  PRIMARY KEY (credential_id, instance, named)
) WITH (fillfactor = 80);
CREATE INDEX credential_instances_by_time ON credential_instances (last_used_at);
