-- +goose Up
-- The key that checkpoints are signed with, and the name of the log: one row, for good.
CREATE TABLE audit_key (
  id       bigint PRIMARY KEY CHECK (id = 1),
  origin   text NOT NULL,
  verifier text NOT NULL,
  sealed   bytea NOT NULL
);

-- What the Merkle tree over the events stands at, and which node may grow it.
CREATE TABLE audit_tree (
  size           bigint NOT NULL,
  checkpoint     bytea,
  published_size bigint NOT NULL,
  published      bytea,
  term           bigint NOT NULL,
  holder         text NOT NULL
);
INSERT INTO audit_tree VALUES (0, NULL, 0, NULL, 0, '');

-- The hashes of the tree, 256 to a tile; a tile at the right edge grows.
CREATE TABLE audit_tiles (
  level  bigint NOT NULL,
  n      bigint NOT NULL,
  hashes bytea NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0),
  PRIMARY KEY (level, n)
);
ALTER TABLE audit_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL; -- hashes do not compress

-- Some of the checkpoints that were published.
CREATE TABLE audit_checkpoints (
  size       bigint PRIMARY KEY,
  checkpoint bytea NOT NULL,
  at         timestamptz NOT NULL
);

CREATE TRIGGER audit_key_stays BEFORE UPDATE ON audit_key FOR EACH ROW
  WHEN (new.origin <> old.origin OR new.verifier <> old.verifier) EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_key_no_delete BEFORE DELETE ON audit_key FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_key_no_truncate BEFORE TRUNCATE ON audit_key FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_tree_only_grows BEFORE UPDATE ON audit_tree FOR EACH ROW
  WHEN (new.size < old.size OR new.published_size < old.published_size OR new.term < old.term OR new.published_size > new.size)
  EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_tree_no_delete BEFORE DELETE ON audit_tree FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_tree_no_truncate BEFORE TRUNCATE ON audit_tree FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_tiles_only_grow BEFORE UPDATE ON audit_tiles FOR EACH ROW
  WHEN (new.level <> old.level OR new.n <> old.n OR substr(new.hashes, 1, length(old.hashes)) <> old.hashes) EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_tiles_no_delete BEFORE DELETE ON audit_tiles FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_tiles_no_truncate BEFORE TRUNCATE ON audit_tiles FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_checkpoints_no_change BEFORE UPDATE OR DELETE ON audit_checkpoints FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_checkpoints_no_truncate BEFORE TRUNCATE ON audit_checkpoints FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
