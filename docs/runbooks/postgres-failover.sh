#!/usr/bin/env bash
# Makes the synchronous standby the primary after the primary's death, and makes a
# standby again of what is left of the old one.
#
#   postgres-failover.sh promote   the standby takes writes
#   postgres-failover.sh rejoin    the old primary follows the new one
#
# promote may be run from any machine that reaches both; rejoin on the old primary's
# machine. The password, if any, is given by PGPASSWORD or PGPASSFILE. Settings:
#
#   PRIMARY      HOST:PORT of the primary that died               (required)
#   STANDBY      HOST:PORT of its standby, the primary from now on (required)
#   PGUSER       a superuser                                      (postgres)
#   PGBIN        folder of PostgreSQL's programs                  (found by pg_config, or PATH)
#   NODES        promote: URLs of the nodes that must be well in the end, by spaces (none)
#   OLD_DATA     rejoin: data folder of the old primary           (required)
#   SLOT         rejoin: replication slot of the standby          (agentidp_standby)
#   HOW          rejoin: rewind what is there, copy everything anew, or auto: rewind, and
#                copy where that fails                            (auto)
#   PG_OPTIONS   rejoin: more options of the server               (none)
#   PG_AS        rejoin: how to become the user that the server runs as, such as
#                "runuser -u postgres --"                         (not at all)
#   PATIENCE     seconds to wait for each thing                   (60)
set -euo pipefail
umask 077

export PGUSER=${PGUSER:-postgres} PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-3}
AGENTIDP=${AGENTIDP:-agentidp} # the program: promote asks the nodes with it
PATIENCE=${PATIENCE:-60}
SLOT=${SLOT:-agentidp_standby}
if [ -z "${PGBIN:-}" ] && command -v pg_config >/dev/null; then PGBIN=$(pg_config --bindir); fi
if [ -n "${PGBIN:-}" ]; then PATH=$PGBIN:$PATH; fi
read -ra as <<<"${PG_AS:-}"

say() { echo "== $*"; }
fail() { echo "postgres-failover: $*" >&2; exit 1; }
need() { [ -n "${!1:-}" ] || fail "$1 is not set: see the top of this script"; }
need PRIMARY
need STANDBY
ask() { psql -XAtq -v ON_ERROR_STOP=1 -h "${STANDBY%:*}" -p "${STANDBY##*:}" -d postgres "$@"; }
alive() { pg_isready -q -h "${1%:*}" -p "${1##*:}" -t 3; }
until_true() {
  local deadline=$((SECONDS + PATIENCE))
  until [ "$(ask -c "$1" 2>/dev/null)" = t ]; do
    [ "$SECONDS" -lt "$deadline" ] || fail "it never became true: $1"
    sleep 0.1
  done
}

promote() {
  local began node deadline
  began=$(date +%s%3N)
  say "asking the primary $PRIMARY once more"
  if alive "$PRIMARY"; then fail "it answers: stop it before its standby is promoted, or there are two of them"; fi
  alive "$STANDBY" || fail "the standby $STANDBY does not answer"
  [ "$(ask -c "SELECT pg_is_in_recovery()")" = t ] || fail "$STANDBY is no standby: was it promoted already?"
  say "the standby has received $(ask -c "SELECT pg_last_wal_receive_lsn()") and replayed $(ask -c "SELECT pg_last_wal_replay_lsn()")"

  say "promoting $STANDBY"
  [ "$(ask -c "SELECT pg_promote(true, $PATIENCE)")" = t ] || fail "it was not promoted within $PATIENCE s"
  until_true "SELECT NOT pg_is_in_recovery()"
  say "it has no standby of its own: no commit may wait for one"
  ask -c "ALTER SYSTEM SET synchronous_standby_names = ''" -c "SELECT pg_reload_conf()" >/dev/null
  until_true "SELECT current_setting('synchronous_standby_names') = ''"
  say "$STANDBY takes writes, $(($(date +%s%3N) - began)) ms after the start"

  for node in ${NODES:-}; do
    deadline=$((SECONDS + PATIENCE))
    until "$AGENTIDP" health --url "$node" >/dev/null 2>&1; do
      [ "$SECONDS" -lt "$deadline" ] || fail "$node is not well: does its DATABASE_URL name $STANDBY, too?"
      sleep 0.1
    done
    say "$node is well"
  done
  say "done, $(($(date +%s%3N) - began)) ms after the start; until rejoin there is one copy of the data"
}

rewind() {
  local try
  for try in 1 2 3; do
    if "${as[@]}" "$(command -v pg_rewind)" --target-pgdata="$OLD_DATA" --source-server="$source" --write-recovery-conf; then return 0; fi
    say "that was try $try of 3: what the dead server left may hold its memory for a moment"
    sleep 1
  done
  return 1
}

copy() {
  local aside
  aside=$OLD_DATA.before-rejoin-$(date -u +%Y%m%dT%H%M%SZ)
  say "copying everything anew; what was there goes to $aside"
  mv "$OLD_DATA" "$aside"
  pg_basebackup --no-password -h "${STANDBY%:*}" -p "${STANDBY##*:}" -D "$OLD_DATA" --write-recovery-conf --wal-method=stream --checkpoint=fast
  if [ ${#as[@]} -gt 0 ]; then chown -R "$("${as[@]}" id -u):$("${as[@]}" id -g)" "$OLD_DATA"; fi
}

rejoin() {
  need OLD_DATA
  local how=${HOW:-auto} source="host=${STANDBY%:*} port=${STANDBY##*:} user=$PGUSER dbname=postgres"
  if alive "$PRIMARY"; then fail "$PRIMARY answers: stop the old primary first"; fi
  [ "$(ask -c "SELECT pg_is_in_recovery()")" = f ] || fail "$STANDBY is not the primary: promote comes first"
  [ -f "$OLD_DATA/PG_VERSION" ] || [ "$how" = copy ] || fail "$OLD_DATA is no data folder; HOW=copy makes it anew"
  ask -c CHECKPOINT # so that the rewind sees the new history

  case $how in
  copy) copy ;;
  rewind | auto)
    say "rewinding the old primary to where the histories part"
    if ! rewind; then
      [ "$how" = auto ] || fail "it cannot be rewound; HOW=copy copies everything"
      copy
    fi
    ;;
  *) fail "HOW must be rewind, copy or auto" ;;
  esac
  ask -c "SELECT pg_create_physical_replication_slot('$SLOT') WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$SLOT')" >/dev/null
  [ -f "$OLD_DATA/standby.signal" ] || fail "$OLD_DATA was not made a standby"
  echo "primary_slot_name = '$SLOT'" >>"$OLD_DATA/postgresql.auto.conf"

  say "starting it as a standby on port ${PRIMARY##*:}"
  "${as[@]}" "$(command -v pg_ctl)" start --silent --wait --timeout="$PATIENCE" --pgdata="$OLD_DATA" --log="$OLD_DATA.rejoin.log" \
    --options="-p ${PRIMARY##*:} ${PG_OPTIONS:-}" || fail "it does not start; see $OLD_DATA.rejoin.log"
  until_true "SELECT count(*) = 1 FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = '$SLOT' AND r.state = 'streaming'"
  say "it follows; from now on commits wait for it"
  ask -c "ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (*)'" -c "SELECT pg_reload_conf()" >/dev/null
  until_true "SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync' AND replay_lsn IS NOT NULL"
  ask -c "SELECT '== ' || application_name || ' ' || client_addr || ' ' || state || ' ' || sync_state || ', behind by ' || (pg_current_wal_lsn() - replay_lsn) || ' bytes' FROM pg_stat_replication"
  say "done: there are two copies of the data again"
}

case "${1:-}" in
promote | rejoin) "$1" ;;
*) fail "say what to do: promote or rejoin" ;;
esac
