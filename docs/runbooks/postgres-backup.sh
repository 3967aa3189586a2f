#!/usr/bin/env bash
# Dumps and restores the PostgreSQL database, and restores it to a moment in the past.
#
#   postgres-backup.sh dump        a logical dump, while the nodes serve
#   postgres-backup.sh undump      read a dump into an empty database
#   postgres-backup.sh archive     switch on the archiving of the write-ahead log
#   postgres-backup.sh base        a base backup, while the nodes serve
#   postgres-backup.sh restore     a new server with the data of TARGET_TIME
#
# Whom it speaks to is said as to PostgreSQL's own programs: PGHOST, PGPORT, PGUSER,
# PGPASSWORD or PGPASSFILE, PGDATABASE. The user must be the owner of the database, for
# archive and base a superuser. Settings:
#
#   PGBIN         folder of PostgreSQL's programs                 (found by pg_config, or PATH)
#   DUMP          dump, undump: folder of the dump                (required)
#   ARCHIVE       archive, restore: folder of the archived log; the database server
#                 writes to it, so it must be on its machine or mounted there (required)
#   BASE          base, restore: folder of the base backup        (required)
#   TARGET_TIME   restore: the moment, such as 2026-01-01 12:00:00+00 (required)
#   NEW_DATA      restore: data folder of the new server; must not exist (required)
#   NEW_PORT      restore: its port                               (5433)
#   PG_OPTIONS    restore: more options of the new server, such as -c max_connections=200;
#                 max_connections must be no less than it was     (none)
#   PG_AS         restore: how to become the user that the server runs as, such as
#                 "runuser -u postgres --"                        (not at all)
#   PATIENCE      seconds to wait for the server                  (300)
set -euo pipefail
umask 077

export PGDATABASE=${PGDATABASE:-agentidp} PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-5}
PATIENCE=${PATIENCE:-300}
if [ -z "${PGBIN:-}" ] && command -v pg_config >/dev/null; then PGBIN=$(pg_config --bindir); fi
if [ -n "${PGBIN:-}" ]; then PATH=$PGBIN:$PATH; fi
read -ra as <<<"${PG_AS:-}"

say() { echo "== $*"; }
fail() { echo "postgres-backup: $*" >&2; exit 1; }
ask() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
need() { [ -n "${!1:-}" ] || fail "$1 is not set: see the top of this script"; }
until_true() { # a question that is asked until the answer is t
  local deadline=$((SECONDS + PATIENCE))
  until [ "$(ask -c "$1" "${@:2}" 2>/dev/null)" = t ]; do
    [ "$SECONDS" -lt "$deadline" ] || fail "it never became true: $1"
    sleep 0.1
  done
}

# The record is whole where its sequences have no gap and end where its head says.
record() {
  local whole
  whole=$(ask -c "SELECT (SELECT coalesce(max(sequence) - min(sequence) + 1, 0) = count(*) AND coalesce(max(sequence), h.sequence) = h.sequence FROM audit_events) FROM audit_head h" "$@")
  [ "$whole" = t ] || fail "the record has a gap"
  say "there are $(ask -c "SELECT count(*) || ' agents, and a record of ' || (SELECT count(*) FROM audit_events) || ' events without a gap' FROM agents" "$@")"
}

dump() {
  need DUMP
  mkdir "$DUMP" || fail "$DUMP is there already"
  say "dumping $PGDATABASE"
  pg_dump --format=custom --no-password --file="$DUMP/database.dump"
  say "dumping the roles, with what their passwords are checked against"
  pg_dumpall --roles-only --no-password --file="$DUMP/roles.sql"
  pg_restore --list "$DUMP/database.dump" >"$DUMP/contents.txt" || fail "the dump cannot be read"
  (cd "$DUMP" && sha256sum database.dump roles.sql >SHA256SUMS)
  sync "$DUMP"/*
  say "done: $DUMP"
}

undump() {
  need DUMP
  local began=$SECONDS problems
  (cd "$DUMP" && sha256sum --check --quiet SHA256SUMS) || fail "the dump is not as it was made: take another one"
  [ "$(ask -c "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")" = 0 ] || fail "$PGDATABASE is not empty: a dump is read into an empty database"
  say "making the roles that are missing"
  problems=$(psql -Xq -f "$DUMP/roles.sql" 2>&1 >/dev/null | grep 'ERROR:' | grep -v 'already exists' || true)
  [ -z "$problems" ] || fail "$problems"
  say "reading the dump into $PGDATABASE"
  pg_restore --no-password --exit-on-error --single-transaction --dbname="$PGDATABASE" "$DUMP/database.dump"
  ask -c ANALYZE
  record
  say "restored in $((SECONDS - began)) s"
}

archive() {
  need ARCHIVE
  local command before
  case $ARCHIVE in *[!A-Za-z0-9_./-]*) fail "ARCHIVE must be a path of letters, digits, and _./-" ;; esac
  # A segment gets its name when it is whole and on the disk, and is never replaced.
  command="test ! -f $ARCHIVE/%f && cp %p $ARCHIVE/%f.part && sync $ARCHIVE/%f.part && mv $ARCHIVE/%f.part $ARCHIVE/%f"
  say "archiving to $ARCHIVE, a segment a minute at least"
  ask -c "ALTER SYSTEM SET archive_mode = on" -c "ALTER SYSTEM SET archive_command = '$command'" -c "ALTER SYSTEM SET archive_timeout = '60s'" \
    -c "SELECT pg_reload_conf()" >/dev/null
  if [ "$(ask -c "SHOW archive_mode")" = off ]; then
    say "PostgreSQL must be restarted once for this: restart it, then run this again"
    return
  fi
  before=$(ask -c "SELECT archived_count FROM pg_stat_archiver")
  ask -c "SELECT pg_create_restore_point('archive-test'), pg_switch_wal()" >/dev/null
  until_true "SELECT archived_count > $before FROM pg_stat_archiver"
  say "done: a segment has arrived in $ARCHIVE"
}

base() {
  need BASE
  [ "$(ask -c "SHOW archive_mode")" != off ] || fail "the write-ahead log is not archived: run archive first"
  say "taking a base backup to $BASE"
  pg_basebackup --no-password --pgdata="$BASE" --wal-method=stream --checkpoint=fast
  pg_verifybackup --quiet "$BASE" || fail "the backup is not whole"
  say "done: it can be restored to any time after $(ask -c "SELECT now()")"
}

restore() {
  need ARCHIVE
  need BASE
  need TARGET_TIME
  need NEW_DATA
  local port=${NEW_PORT:-5433} began=$SECONDS segment deadline
  [ ! -e "$NEW_DATA" ] || fail "$NEW_DATA is there already: a restore goes into a new folder"
  if pg_isready -q; then
    say "the old server is alive: archiving what it has written up to now"
    segment=$(ask -c "SELECT pg_walfile_name(pg_current_wal_lsn())")
    ask -c "SELECT pg_create_restore_point('before-restore'), pg_switch_wal()" >/dev/null
    until_true "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver"
  else
    say "the old server is gone: what it had not archived yet is not restored"
  fi

  say "copying the base backup to $NEW_DATA"
  cp -R "$BASE" "$NEW_DATA"
  {
    echo "restore_command = 'cp $ARCHIVE/%f %p'"
    echo "recovery_target_time = '$TARGET_TIME'"
    echo "recovery_target_action = 'promote'"
    # The new server must not write where the old one did, nor wait for its standbys.
    echo "archive_mode = off"
    echo "synchronous_standby_names = ''"
  } >>"$NEW_DATA/postgresql.auto.conf"
  : >"$NEW_DATA/recovery.signal"
  chmod 700 "$NEW_DATA"
  if [ ${#as[@]} -gt 0 ]; then chown -R "$("${as[@]}" id -u):$("${as[@]}" id -g)" "$NEW_DATA"; fi

  say "starting a server on it, on port $port"
  "${as[@]}" "$(command -v pg_ctl)" start --silent --wait --timeout="$PATIENCE" --pgdata="$NEW_DATA" --log="$NEW_DATA/restore.log" \
    --options="-p $port ${PG_OPTIONS:-}" || fail "it does not start; see $NEW_DATA/restore.log"
  deadline=$((SECONDS + PATIENCE))
  until [ "$(ask -p "$port" -c "SELECT NOT pg_is_in_recovery()" 2>/dev/null)" = t ]; do
    "${as[@]}" "$(command -v pg_ctl)" status --pgdata="$NEW_DATA" >/dev/null || fail "it ended: $(grep FATAL "$NEW_DATA/restore.log" | tail -1)"
    [ "$SECONDS" -lt "$deadline" ] || fail "it does not become ready; see $NEW_DATA/restore.log"
    sleep 0.1
  done
  grep -h 'recovery stopping' "$NEW_DATA/restore.log" || true
  ask -p "$port" -c "ALTER SYSTEM RESET recovery_target_time" -c "ALTER SYSTEM RESET restore_command" -c "ALTER SYSTEM RESET recovery_target_action"
  record -p "$port"
  say "restored to $TARGET_TIME in $((SECONDS - began)) s; look at it before the nodes are pointed to port $port"
}

case "${1:-}" in
dump | undump | archive | base | restore) "$1" ;;
*) fail "say what to do: dump, undump, archive, base or restore" ;;
esac
