#!/usr/bin/env bash
# Copies the embedded database while the server runs, and restores it from a copy.
#
#   embedded-backup.sh backup     make a copy; the server goes on
#   embedded-backup.sh restore    stop the server, put a copy in place, start it
#
# Run it as the user that the server runs as, and with the server's own settings in the
# environment or in its .env file. Settings:
#
#   AGENTIDP     the program                                     (agentidp)
#   DATA_DIR     the server's data folder                        (./agentidp-data)
#   DATABASE     the database's file                             (DATA_DIR/agentidp.db)
#   BACKUP_DIR   backup: folder that gets a folder for each copy (required)
#   BACKUP       restore: the folder of the copy                 (required)
#   STOP         restore: command that stops the server and returns when it has ended
#                (systemctl stop agentidp)
#   START        restore: command that starts it                 (systemctl start agentidp)
#   HEALTH_URL   restore: where the server answers               (http://127.0.0.1:3000)
#   PATIENCE     restore: seconds to wait for it                 (60)
set -euo pipefail
umask 077

AGENTIDP=${AGENTIDP:-agentidp}
export DATA_DIR=${DATA_DIR:-./agentidp-data}
DATABASE=${DATABASE:-$DATA_DIR/agentidp.db}
export DATABASE_URL=sqlite:$DATABASE
STOP=${STOP:-systemctl stop agentidp}
START=${START:-systemctl start agentidp}
HEALTH_URL=${HEALTH_URL:-http://127.0.0.1:3000}
PATIENCE=${PATIENCE:-60}

say() { echo "== $*"; }
fail() { echo "embedded-backup: $*" >&2; exit 1; }
now() { date +%s%3N; } # milliseconds
stamp() { date -u +%Y%m%dT%H%M%SZ; }
healthy() { "$AGENTIDP" health --url "$HEALTH_URL" >/dev/null 2>&1; }

backup() {
  : "${BACKUP_DIR:?embedded-backup: BACKUP_DIR says where the copies go}"
  local copy
  copy=$BACKUP_DIR/agentidp-$(stamp)
  mkdir -p "$BACKUP_DIR"
  mkdir "$copy" || fail "$copy is there already: try again in a second"
  say "copying the database to $copy"
  "$AGENTIDP" backup --to "$copy/agentidp.db" || fail "the copy was not made"
  if [ -f "$DATA_DIR/jwt-secret" ]; then
    say "copying the root secret that belongs to it"
    cp "$DATA_DIR/jwt-secret" "$copy/jwt-secret"
  else
    say "the root secret is in JWT_SECRET: it belongs to the copy, and is kept where you keep it"
  fi
  (cd "$copy" && sha256sum -- * >SHA256SUMS)
  sync "$copy"/*
  say "done: $copy"
}

restore() {
  : "${BACKUP:?embedded-backup: BACKUP names the folder of the copy}"
  local trial=$DATA_DIR/restore aside began stopped
  [ -f "$BACKUP/agentidp.db" ] || fail "$BACKUP holds no agentidp.db"
  began=$(now)

  say "reading the copy through"
  (cd "$BACKUP" && sha256sum --check --quiet SHA256SUMS) || fail "the copy is not as it was made: take another one"

  say "opening a copy of the copy with the root secret, before anything is touched"
  mkdir -p "$DATA_DIR"
  rm -rf "$trial" && mkdir "$trial"
  cp "$BACKUP/agentidp.db" "$trial/agentidp.db"
  [ ! -f "$BACKUP/jwt-secret" ] || cp "$BACKUP/jwt-secret" "$trial/jwt-secret"
  if [ -z "${JWT_SECRET:-}${JWT_SECRET_FILE:-}" ] && [ ! -f "$trial/jwt-secret" ]; then
    fail "neither the copy nor JWT_SECRET has the root secret: without it the keys cannot be opened"
  fi
  DATA_DIR=$trial DATABASE_URL=sqlite:$trial/agentidp.db "$AGENTIDP" keys list || fail "the root secret does not open this copy"

  stopped=$(now)
  say "stopping the server: $STOP"
  bash -c "$STOP" || fail "the server was not stopped"
  if healthy; then fail "something still answers at $HEALTH_URL"; fi

  aside=$DATA_DIR/before-restore-$(stamp)
  say "putting what was there aside, its write-ahead log with it: $aside"
  mkdir "$aside"
  for f in "$DATABASE" "$DATABASE-wal" "$DATABASE-shm" "$DATA_DIR/jwt-secret"; do
    [ ! -e "$f" ] || mv "$f" "$aside/"
  done

  say "putting the copy in place"
  for f in "$DATABASE-wal" "$DATABASE-shm"; do
    [ ! -e "$f" ] || fail "$f is there: it belongs to another database"
  done
  if [ -f "$BACKUP/jwt-secret" ]; then
    cp "$BACKUP/jwt-secret" "$DATA_DIR/jwt-secret"
  elif [ -f "$aside/jwt-secret" ]; then
    cp "$aside/jwt-secret" "$DATA_DIR/jwt-secret"
  fi
  rm -rf "$trial"
  cp "$BACKUP/agentidp.db" "$DATABASE"
  sync "$DATABASE" "$DATA_DIR"

  say "starting the server: $START"
  bash -c "$START" || fail "the server was not started; what was there before is in $aside"
  local deadline=$((SECONDS + PATIENCE))
  until healthy; do
    [ "$SECONDS" -lt "$deadline" ] || fail "the server does not answer at $HEALTH_URL; what was there before is in $aside"
    sleep 0.1
  done
  "$AGENTIDP" health --url "$HEALTH_URL"
  say "restored in $(($(now) - began)) ms, of which the server was away for $(($(now) - stopped)) ms"
  say "what was there before is in $aside; remove it when nothing of it is missed"
}

case "${1:-}" in
backup) backup ;;
restore) restore ;;
*) fail "say what to do: backup or restore" ;;
esac
