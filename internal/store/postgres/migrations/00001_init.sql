-- +goose Up
CREATE TABLE organizations (
  id                    uuid PRIMARY KEY,
  name                  text NOT NULL UNIQUE,
  display_name          text NOT NULL DEFAULT '',
  max_agents            bigint CHECK (max_agents > 0),
  token_rate_per_minute bigint CHECK (token_rate_per_minute > 0),
  audit_retention_days  bigint CHECK (audit_retention_days > 0),
  audit_introspection   boolean NOT NULL DEFAULT false,
  created_at            timestamptz NOT NULL,
  updated_at            timestamptz NOT NULL,
  revision              bigint NOT NULL DEFAULT 1
);
CREATE INDEX organizations_by_time ON organizations (created_at, id);
INSERT INTO organizations (id, name, display_name, created_at, updated_at)
VALUES ('00000000-0000-4000-8000-000000000001', 'default', 'Operator', now(), now());

-- Raised in the transaction of every registry change: while it stands still,
-- every cached agent and credential still holds.
CREATE TABLE change_counter (value bigint NOT NULL);
INSERT INTO change_counter VALUES (1);

CREATE TABLE agents (
  id                 uuid PRIMARY KEY,
  organization_id    uuid NOT NULL REFERENCES organizations (id),
  email              text NOT NULL,
  agent_type         text NOT NULL,
  version            text NOT NULL,
  capabilities       text NOT NULL,
  owner              text NOT NULL,
  deployment_env     text NOT NULL CHECK (deployment_env IN ('development', 'staging', 'production')),
  status             text NOT NULL CHECK (status IN ('active', 'suspended', 'revoked', 'archived')),
  metadata           text NOT NULL DEFAULT '{}', -- given back as it was given, numbers of any size
  token_ttl          bigint NOT NULL DEFAULT 0,
  created_at         timestamptz NOT NULL,
  updated_at         timestamptz NOT NULL,
  last_auth_at       timestamptz,
  tokens_valid_after timestamptz,
  revision           bigint NOT NULL DEFAULT 1,
  UNIQUE (organization_id, email)
) WITH (fillfactor = 80); -- last_auth_at changes with every token; room keeps that within the page
CREATE INDEX agents_by_time       ON agents (organization_id, created_at, id);
CREATE INDEX agents_by_status     ON agents (organization_id, status, created_at, id);
CREATE INDEX agents_by_type       ON agents (organization_id, agent_type, created_at, id);
CREATE INDEX agents_by_owner      ON agents (organization_id, owner, created_at, id);
CREATE INDEX agents_by_deployment ON agents (organization_id, deployment_env, created_at, id);

CREATE TABLE agent_capabilities (
  agent_id        uuid NOT NULL REFERENCES agents (id),
  organization_id uuid NOT NULL,
  capability      text NOT NULL,
  created_at      timestamptz NOT NULL,
  status          text NOT NULL, -- the agent's, so that the index alone finds the few that are asked for
  PRIMARY KEY (agent_id, capability)
);
CREATE INDEX agent_capabilities_by_time ON agent_capabilities (organization_id, capability, created_at, agent_id, status);

CREATE TABLE credentials (
  id              uuid PRIMARY KEY,
  agent_id        uuid NOT NULL REFERENCES agents (id),
  organization_id uuid NOT NULL,
  key_id          text NOT NULL UNIQUE,
  label           text NOT NULL DEFAULT '',
  bcrypt          bytea,
  fingerprint     bytea NOT NULL,
  fingerprint_key text NOT NULL,
  created_at      timestamptz NOT NULL,
  expires_at      timestamptz,
  revoked_at      timestamptz,
  last_used_at    timestamptz,
  rotated_from    uuid,
  revision        bigint NOT NULL DEFAULT 1
) WITH (fillfactor = 80);
CREATE INDEX credentials_by_agent ON credentials (agent_id, created_at, id);
CREATE INDEX credentials_live     ON credentials (agent_id, revoked_at, expires_at);

CREATE TABLE revoked_tokens (
  jti        uuid PRIMARY KEY,
  expires_at timestamptz NOT NULL
);
CREATE INDEX revoked_tokens_by_expiry ON revoked_tokens (expires_at);

-- Requests that may be repeated without being carried out twice.
CREATE TABLE idempotency_keys (
  caller_id  uuid NOT NULL,
  key        text NOT NULL,
  request    bytea NOT NULL,
  made       text NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (caller_id, key)
);
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);

CREATE TABLE signing_keys (
  kid          text PRIMARY KEY,
  alg          text NOT NULL,
  sealed       bytea NOT NULL,
  public_jwk   bytea NOT NULL,
  created_at   timestamptz NOT NULL,
  activates_at timestamptz NOT NULL,
  retires_at   timestamptz
);

CREATE TABLE audit_head (sequence bigint NOT NULL);
INSERT INTO audit_head VALUES (0);

-- body holds the event's canonical bytes; the other columns are there to be searched.
-- A partition per day lets whole days go. What has no partition yet goes to the last.
CREATE TABLE audit_events (
  sequence        bigint NOT NULL,
  id              uuid NOT NULL,
  organization_id uuid NOT NULL,
  time            timestamptz NOT NULL,
  agent_id        uuid,
  actor_id        text NOT NULL,
  action          text NOT NULL,
  outcome         text NOT NULL,
  body            bytea NOT NULL,
  PRIMARY KEY (id, time),
  UNIQUE (sequence, time)
) PARTITION BY RANGE (time);
CREATE INDEX audit_events_by_time    ON audit_events (organization_id, time, id);
CREATE INDEX audit_events_by_agent   ON audit_events (organization_id, agent_id, time, id);
CREATE INDEX audit_events_by_actor   ON audit_events (organization_id, actor_id, time, id, action, outcome);
CREATE INDEX audit_events_by_action  ON audit_events (organization_id, action, time, id);
CREATE INDEX audit_events_by_outcome ON audit_events (organization_id, outcome, time, id);
-- What was denied is looked at by action, which only what was denied pays for.
CREATE INDEX audit_events_denied     ON audit_events (organization_id, action, time, id) WHERE outcome = 'denied';

-- +goose StatementBegin
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit log only grows: % on % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_events_no_change   BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_events_no_truncate BEFORE TRUNCATE ON audit_events FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_head_no_delete     BEFORE DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_head_no_truncate   BEFORE TRUNCATE ON audit_head FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_head_only_grows    BEFORE UPDATE ON audit_head FOR EACH ROW
  WHEN (new.sequence <= old.sequence) EXECUTE FUNCTION audit_refuse();

CREATE TABLE audit_events_default PARTITION OF audit_events DEFAULT;
CREATE TRIGGER audit_events_default_no_truncate BEFORE TRUNCATE ON audit_events_default FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

-- The server calls this for the days to come. It runs as the owner, as the server's
-- own role may not make tables; so it trusts nothing of its caller: every name is
-- qualified, temporary objects are searched last, and only days about now are made.
-- A table that is attached, unlike one made as a partition, holds up no writer; what
-- it cannot do now (the day's events stand in the default partition, or another has
-- locked it) is left, as the default partition takes every event.
-- +goose StatementBegin
CREATE FUNCTION audit_partition(day date) RETURNS void LANGUAGE plpgsql STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
  name text := 'audit_events_' || to_char(day, 'YYYYMMDD');
BEGIN
  IF day NOT BETWEEN current_date - 1 AND current_date + 31 OR to_regclass('public.' || name) IS NOT NULL THEN
    RETURN;
  END IF;
  EXECUTE format('CREATE TABLE public.%I (LIKE public.audit_events)', name);
  EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON public.%I FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse()', name || '_no_truncate', name);
  EXECUTE format('ALTER TABLE public.audit_events ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', name, day::timestamptz, (day + 1)::timestamptz);
EXCEPTION
  WHEN duplicate_table OR duplicate_object OR unique_violation THEN NULL; -- another node was faster
  WHEN check_violation OR lock_not_available THEN NULL;
END $$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION audit_partition(date) FROM PUBLIC;
