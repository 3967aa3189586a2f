-- +goose Up
ALTER TABLE organizations ADD COLUMN legal_hold boolean NOT NULL DEFAULT false;

-- The database's own clock, and what was seen of it.
CREATE VIEW database_clock AS SELECT clock_timestamp() AS now;
CREATE TABLE audit_clock (since timestamptz NOT NULL, seen timestamptz NOT NULL);
INSERT INTO audit_clock VALUES ('epoch', 'epoch');

-- What is being deleted and is not told of yet: empty but within a transaction. The
-- triggers below know by it what may go; a setting would not do, as anybody can make one.
CREATE TABLE audit_drops (
  organization_id uuid NOT NULL,
  before          timestamptz NOT NULL,
  sequences       text NOT NULL,
  count           bigint NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION audit_drop_lawful() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- Locked, so that no event goes once a legal hold has been set.
  PERFORM FROM public.organizations o WHERE o.id = new.organization_id AND NOT o.legal_hold AND isfinite(new.before)
    AND new.before <= clock_timestamp() - make_interval(hours => 24 * coalesce(o.audit_retention_days, 1)::integer) FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the events of % before % cannot be dropped', new.organization_id, new.before USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN new;
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_drops_lawful BEFORE INSERT ON audit_drops FOR EACH ROW EXECUTE FUNCTION audit_drop_lawful();
CREATE TRIGGER audit_drops_no_change BEFORE UPDATE ON audit_drops FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_drops_no_truncate BEFORE TRUNCATE ON audit_drops FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

-- No commit with something untold.
-- +goose StatementBegin
CREATE FUNCTION audit_drop_untold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM public.audit_drops) THEN
    RAISE EXCEPTION 'no event tells of the events that were dropped' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE CONSTRAINT TRIGGER audit_drops_untold AFTER INSERT ON audit_drops DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_drop_untold();

-- +goose StatementBegin
CREATE FUNCTION audit_refuse_deletion() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF old.action <> 'audit.dropped' AND old.sequence <= (SELECT t.size FROM public.audit_tree t)
    AND EXISTS (SELECT FROM public.audit_drops d WHERE d.organization_id = old.organization_id AND old.time < d.before) THEN
    RETURN old;
  END IF;
  RAISE EXCEPTION 'the audit log only grows: % on % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
DROP TRIGGER audit_events_no_change ON audit_events;
CREATE TRIGGER audit_events_no_change BEFORE UPDATE ON audit_events FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events FOR EACH ROW EXECUTE FUNCTION audit_refuse_deletion();

-- An event that tells of a drop must be true: it names what this transaction deleted,
-- or is one that the tree holds already and that moves to another partition.
-- +goose StatementBegin
CREATE FUNCTION audit_drop_told() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
  details json := convert_from(new.body, 'UTF8')::json -> 'details';
BEGIN
  DELETE FROM public.audit_drops d WHERE d.organization_id = new.organization_id AND d.sequences = details ->> 'sequences'
    AND d.count = (details ->> 'count')::bigint AND d.before = (details ->> 'before')::timestamptz;
  IF NOT FOUND AND NOT EXISTS (SELECT FROM public.audit_tiles t WHERE t.level = 0 AND t.n = (new.sequence - 1) / 256 AND new.sequence > 0
    AND substr(t.hashes, ((new.sequence - 1) % 256)::integer * 32 + 1, 32) = sha256('\x00'::bytea || new.body)) THEN
    RAISE EXCEPTION 'nothing was dropped that this event tells of' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER audit_events_told AFTER INSERT ON audit_events FOR EACH ROW WHEN (new.action = 'audit.dropped') EXECUTE FUNCTION audit_drop_told();

-- The server calls this to delete the events of ranges of sequences. It runs as the
-- owner, as the server's own role may not delete; so it trusts nothing of its caller:
-- names are qualified, temporary objects are searched last, the triggers above say what
-- is lawful, and the events go exactly as they were named, or none does. from_time and
-- to_time are those of the oldest and the newest of them and say which partitions to
-- look at.
-- +goose StatementBegin
CREATE FUNCTION audit_drop(organization uuid, before_time timestamptz, from_time timestamptz, to_time timestamptz, firsts bigint[], lasts bigint[])
RETURNS bigint LANGUAGE plpgsql STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off AS $$
DECLARE
  wanted bigint;
  named text;
  ordered boolean;
  gone bigint;
BEGIN
  IF cardinality(firsts) NOT BETWEEN 1 AND 2000 OR cardinality(lasts) <> cardinality(firsts) THEN
    RAISE EXCEPTION 'these are not ranges of sequences' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  SELECT sum(r.last - r.first + 1), bool_and(coalesce(r.first <= r.last AND r.first > r.previous, false)),
    string_agg(CASE WHEN r.first = r.last THEN r.first::text ELSE r.first || '-' || r.last END, ',' ORDER BY r.place) INTO wanted, ordered, named
    FROM (SELECT u.first, u.last, u.place, lag(u.last, 1, 0::bigint) OVER (ORDER BY u.place) AS previous
      FROM unnest(firsts, lasts) WITH ORDINALITY AS u(first, last, place)) AS r;
  IF NOT ordered OR wanted > 50000 THEN
    RAISE EXCEPTION 'these are not ranges of sequences' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO public.audit_drops (organization_id, before, sequences, count) VALUES (organization, before_time, named, wanted);
  -- One by one: that the sequence is equal is what an index serves, whatever the planner
  -- thinks of ranges.
  DELETE FROM public.audit_events e USING unnest(firsts, lasts) AS r(first, last) CROSS JOIN LATERAL generate_series(r.first, r.last) AS g(n)
    WHERE e.sequence = g.n AND e.time BETWEEN from_time AND to_time AND e.time < before_time AND e.organization_id = organization;
  GET DIAGNOSTICS gone = ROW_COUNT;
  IF gone <> wanted THEN
    RAISE EXCEPTION '% of % events can be dropped', gone, wanted USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN gone;
END $$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION audit_drop(uuid, timestamptz, timestamptz, timestamptz, bigint[], bigint[]) FROM PUBLIC;

-- The server calls this for days long past. Where nothing is left of one but a few
-- events that tell of drops, these go to the default partition and the day's goes away.
-- Writers wait while it does, and so it gives up at once where it would have to wait
-- itself. It trusts nothing of its caller either.
-- +goose StatementBegin
CREATE FUNCTION audit_drop_day(day date) RETURNS boolean LANGUAGE plpgsql STRICT SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '200ms' AS $$
DECLARE
  name text := coalesce('audit_events_' || to_char(day, 'YYYYMMDD'), 'none');
  few text := format('SELECT count(*) <= 2000 AND coalesce(bool_and(e.action = ''audit.dropped'' AND e.sequence <= t.size), true)
    FROM (SELECT action, sequence FROM public.%I LIMIT 2001) e CROSS JOIN public.audit_tree t', name);
  spent boolean;
BEGIN
  IF day NOT BETWEEN '2000-01-01' AND current_date - 3 OR NOT EXISTS (SELECT FROM pg_inherits i
    WHERE i.inhparent = 'public.audit_events'::regclass AND i.inhrelid = to_regclass('public.' || name)) THEN
    RETURN false;
  END IF;
  EXECUTE few INTO spent;
  IF NOT spent THEN
    RETURN false;
  END IF;
  LOCK TABLE ONLY public.audit_events IN ACCESS EXCLUSIVE MODE;
  EXECUTE format('ALTER TABLE public.audit_events DETACH PARTITION public.%I', name);
  EXECUTE few INTO spent; -- again, now that nothing can come any more
  IF NOT spent THEN
    RAISE lock_not_available;
  END IF;
  EXECUTE format('INSERT INTO public.audit_events (sequence, id, organization_id, time, agent_id, actor_id, action, outcome, body)
    SELECT sequence, id, organization_id, time, agent_id, actor_id, action, outcome, body FROM public.%I', name);
  EXECUTE format('DROP TABLE public.%I', name);
  RETURN true;
EXCEPTION
  WHEN lock_not_available OR deadlock_detected OR undefined_table THEN RETURN false; -- the next time
END $$;
-- +goose StatementEnd
REVOKE EXECUTE ON FUNCTION audit_drop_day(date) FROM PUBLIC;
