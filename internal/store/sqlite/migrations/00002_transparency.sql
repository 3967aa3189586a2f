-- +goose Up
-- The key that checkpoints are signed with, and the name of the log: one row, for good.
CREATE TABLE audit_key (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  origin   TEXT NOT NULL,
  verifier TEXT NOT NULL,
  sealed   BLOB NOT NULL
) STRICT;

-- What the Merkle tree over the events stands at, and which node may grow it.
CREATE TABLE audit_tree (
  size           INTEGER NOT NULL,
  checkpoint     BLOB,
  published_size INTEGER NOT NULL,
  published      BLOB,
  term           INTEGER NOT NULL,
  holder         TEXT NOT NULL
) STRICT;
INSERT INTO audit_tree VALUES (0, NULL, 0, NULL, 0, '');

-- The hashes of the tree, 256 to a tile; a tile at the right edge grows.
CREATE TABLE audit_tiles (
  level  INTEGER NOT NULL,
  n      INTEGER NOT NULL,
  hashes BLOB NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0),
  PRIMARY KEY (level, n)
) STRICT, WITHOUT ROWID;

-- Some of the checkpoints that were published.
CREATE TABLE audit_checkpoints (
  size       INTEGER PRIMARY KEY,
  checkpoint BLOB NOT NULL,
  at         INTEGER NOT NULL
) STRICT;

-- +goose StatementBegin
CREATE TRIGGER audit_key_stays BEFORE UPDATE ON audit_key WHEN new.origin <> old.origin OR new.verifier <> old.verifier
BEGIN SELECT RAISE(ABORT, 'the key of the audit log cannot be changed'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_key_no_delete BEFORE DELETE ON audit_key
BEGIN SELECT RAISE(ABORT, 'the key of the audit log cannot be deleted'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_tree_only_grows BEFORE UPDATE ON audit_tree
WHEN new.size < old.size OR new.published_size < old.published_size OR new.term < old.term OR new.published_size > new.size
BEGIN SELECT RAISE(ABORT, 'the tree of the audit log only grows'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_tree_no_delete BEFORE DELETE ON audit_tree
BEGIN SELECT RAISE(ABORT, 'the tree of the audit log only grows'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_tiles_only_grow BEFORE UPDATE ON audit_tiles
WHEN new.level <> old.level OR new.n <> old.n OR substr(new.hashes, 1, length(old.hashes)) <> old.hashes
BEGIN SELECT RAISE(ABORT, 'a tile of the audit log only grows'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_tiles_no_delete BEFORE DELETE ON audit_tiles
BEGIN SELECT RAISE(ABORT, 'a tile of the audit log only grows'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_checkpoints_no_update BEFORE UPDATE ON audit_checkpoints
BEGIN SELECT RAISE(ABORT, 'a checkpoint of the audit log cannot be changed'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_checkpoints_no_delete BEFORE DELETE ON audit_checkpoints
BEGIN SELECT RAISE(ABORT, 'a checkpoint of the audit log cannot be deleted'); END;
-- +goose StatementEnd

-- INSERT OR REPLACE would remove a row without a word to the DELETE triggers.
-- +goose StatementBegin
CREATE TRIGGER audit_key_no_replace BEFORE INSERT ON audit_key WHEN EXISTS (SELECT 1 FROM audit_key)
BEGIN SELECT RAISE(ABORT, 'the key of the audit log cannot be replaced'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_tiles_no_replace BEFORE INSERT ON audit_tiles
WHEN EXISTS (SELECT 1 FROM audit_tiles t WHERE t.level = new.level AND t.n = new.n AND substr(new.hashes, 1, length(t.hashes)) <> t.hashes)
BEGIN SELECT RAISE(ABORT, 'a tile of the audit log only grows'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_checkpoints_no_replace BEFORE INSERT ON audit_checkpoints WHEN EXISTS (SELECT 1 FROM audit_checkpoints c WHERE c.size = new.size)
BEGIN SELECT RAISE(ABORT, 'a checkpoint of the audit log cannot be replaced'); END;
-- +goose StatementEnd
