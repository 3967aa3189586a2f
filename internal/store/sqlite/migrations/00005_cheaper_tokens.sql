-- +goose Up
-- When a credential was used last, to a second: a row of its own, as it changes often and
-- the rest of a credential seldom. agents.last_auth_at and credentials.last_used_at are no
-- longer written; they stay for nodes of the version before.
CREATE TABLE credential_uses (
  credential_id TEXT PRIMARY KEY REFERENCES credentials (id),
  last_used_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO credential_uses SELECT id, last_used_at FROM credentials WHERE last_used_at IS NOT NULL;

-- Nearly every event tells of a token that an agent got: what finds the others is
-- kept for the others alone, and no index holds more than it needs to.
DROP INDEX audit_events_by_time;
DROP INDEX audit_events_by_agent;
DROP INDEX audit_events_by_actor;
DROP INDEX audit_events_by_action;
DROP INDEX audit_events_by_outcome;
CREATE INDEX audit_events_by_time    ON audit_events (organization_id, time);
CREATE INDEX audit_events_by_agent   ON audit_events (organization_id, agent_id, time, action, outcome);
CREATE INDEX audit_events_by_actor   ON audit_events (organization_id, actor_id, time, action, outcome) WHERE actor_id IS DISTINCT FROM CAST(agent_id AS text);
CREATE INDEX audit_events_by_action  ON audit_events (organization_id, action, time);
CREATE INDEX audit_events_by_outcome ON audit_events (organization_id, outcome, time) WHERE outcome <> 'success';
