-- +goose Up
ALTER TABLE organizations ADD COLUMN legal_hold boolean NOT NULL DEFAULT false;

-- The database's own clock, and what was seen of it.
CREATE VIEW database_clock AS SELECT clock_timestamp() AS now;
CREATE TABLE audit_clock (since timestamptz NOT NULL, seen timestamptz NOT NULL);
INSERT INTO audit_clock VALUES ('epoch', 'epoch');

-- What is being deleted and not told of yet: empty but within a transaction.
CREATE TABLE audit_drops (
  organization_id uuid NOT NULL,
  sequences       text NOT NULL,
  count           bigint NOT NULL,
  before          timestamptz NOT NULL
);

-- A row goes only where audit_drop lets it. What that is doing is told to this trigger
-- by the rows above: no setting can, as the caller makes settings too.
-- +goose StatementBegin
CREATE FUNCTION audit_refuse_deletion() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM public.audit_drops d WHERE d.organization_id = old.organization_id AND old.time < d.before)
    AND old.action <> 'audit.dropped' AND old.sequence <= (SELECT size FROM public.audit_tree) THEN
    RETURN old;
  END IF;
  RAISE EXCEPTION 'the audit log only grows: % on % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
