-- +goose Up
ALTER TABLE organizations ADD COLUMN legal_hold INTEGER NOT NULL DEFAULT 0 CHECK (legal_hold IN (0, 1));

-- The database's own clock, and what was seen of it.
CREATE VIEW database_clock AS SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER) AS now;
CREATE TABLE audit_clock (since INTEGER NOT NULL, seen INTEGER NOT NULL) STRICT;
INSERT INTO audit_clock VALUES (0, 0);

-- What lets old events go, and nothing else does: one row, for as long as a transaction
-- takes. No commit gets past never, so the row must be gone by then, and only the event
-- that tells of all that went removes it.
CREATE TABLE audit_drop (
  organization_id TEXT NOT NULL REFERENCES organizations (id),
  before          INTEGER NOT NULL,
  gone            INTEGER NOT NULL DEFAULT 0 CHECK (gone >= 0),
  told            INTEGER NOT NULL DEFAULT 0 CHECK (told IN (0, 1)),
  never           INTEGER NOT NULL DEFAULT 0 CHECK (never = 0) REFERENCES audit_key (id) DEFERRABLE INITIALLY DEFERRED
) STRICT;
CREATE INDEX audit_drop_by_key ON audit_drop (never);
-- +goose StatementBegin
CREATE TRIGGER audit_drop_lawful BEFORE INSERT ON audit_drop
WHEN EXISTS (SELECT 1 FROM audit_drop) OR new.gone <> 0 OR new.told <> 0 OR NOT EXISTS (SELECT 1 FROM organizations o WHERE o.id = new.organization_id
  AND NOT o.legal_hold AND new.before <= (SELECT now FROM database_clock) - coalesce(o.audit_retention_days, 1) * 86400000000)
BEGIN SELECT RAISE(ABORT, 'these audit events cannot be dropped'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_drop_stays BEFORE UPDATE ON audit_drop
WHEN new.organization_id <> old.organization_id OR new.before <> old.before OR new.gone < old.gone OR new.told < old.told OR new.never <> old.never
BEGIN SELECT RAISE(ABORT, 'these audit events cannot be dropped'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_drop_told BEFORE DELETE ON audit_drop WHEN NOT old.told
BEGIN SELECT RAISE(ABORT, 'audit events cannot be dropped untold'); END;
-- +goose StatementEnd
-- +goose StatementBegin
DROP TRIGGER audit_events_no_delete;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events
WHEN NOT EXISTS (SELECT 1 FROM audit_drop d WHERE d.organization_id = old.organization_id AND old.time < d.before AND NOT d.told)
  OR old.action = 'audit.dropped' OR old.sequence > (SELECT size FROM audit_tree)
BEGIN SELECT RAISE(ABORT, 'audit events cannot be deleted'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_events_counted AFTER DELETE ON audit_events
BEGIN UPDATE audit_drop SET gone = gone + 1; END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_events_told AFTER INSERT ON audit_events WHEN new.action = 'audit.dropped'
BEGIN
  UPDATE audit_drop SET told = 1 WHERE organization_id = new.organization_id AND gone > 0 AND gone = json_extract(CAST(new.body AS TEXT), '$.details.count');
  SELECT RAISE(ABORT, 'nothing was dropped that this event tells of') WHERE NOT EXISTS (SELECT 1 FROM audit_drop WHERE told);
  DELETE FROM audit_drop;
END;
-- +goose StatementEnd
