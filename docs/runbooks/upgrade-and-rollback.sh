#!/usr/bin/env bash
# Upgrades the nodes of a cluster on PostgreSQL one by one, with nobody turned away,
# and goes back to the old program.
#
#   upgrade-and-rollback.sh migrate    expand the schema beside the old nodes
#   upgrade-and-rollback.sh upgrade    roll the nodes to the new program
#   upgrade-and-rollback.sh rollback   roll them back to the old one; the schema stays
#
# In front of the nodes is a balancer that asks /health/ready. Run it with the nodes' own
# settings in the environment: DATABASE_URL, JWT_SECRET_FILE and so on, and a
# SHUTDOWN_DELAY longer than the balancer needs to notice that a node is not ready.
# For migrate DATABASE_URL is that of the schema's owner. Settings:
#
#   OLD, NEW        the programs, such as /opt/agentidp/1.4/agentidp (required)
#   OLD_PORTS       ports that the old nodes serve on, by spaces  (required)
#   NEW_PORTS       ports for the new nodes, as many              (required)
#   NODE_HOST       where they are asked                          (127.0.0.1)
#   START           command that starts the program $BINARY on port $PORT and returns
#                   (runs it in the background, its id in RUN_DIR/PORT.pid)
#   STOP            command that ends the node on port $PORT gracefully, and returns when
#                   it has ended                                  (by RUN_DIR/PORT.pid)
#   RUN_DIR         folder of ids and logs                        (/run/agentidp)
#   EXPAND          migrate: file of SQL to run after the migrations, such as an index that
#                   is to be made first; additive, and such that it may be run again (none)
#   LOCK_TIMEOUT    migrate: how long EXPAND may hold up the nodes (500ms)
#   SETTLE          seconds that the balancer needs to notice that a node is ready (10)
#   PATIENCE        seconds to wait for a node                    (60)
set -euo pipefail

NODE_HOST=${NODE_HOST:-127.0.0.1}
RUN_DIR=${RUN_DIR:-/run/agentidp}
LOCK_TIMEOUT=${LOCK_TIMEOUT:-500ms}
PATIENCE=${PATIENCE:-60}
SETTLE=${SETTLE:-10}
if [ -n "${PGBIN:-}" ]; then PATH=$PGBIN:$PATH; fi

say() { echo "== $*"; }
fail() { echo "upgrade-and-rollback: $*" >&2; exit 1; }
for name in OLD NEW OLD_PORTS NEW_PORTS; do
  [ -n "${!name:-}" ] || fail "$name is not set: see the top of this script"
done
read -ra old_ports <<<"$OLD_PORTS"
read -ra new_ports <<<"$NEW_PORTS"
[ ${#old_ports[@]} -eq ${#new_ports[@]} ] || fail "OLD_PORTS and NEW_PORTS must be as many"
for program in "$OLD" "$NEW"; do
  "$program" version >/dev/null || fail "$program does not run"
done

# A process that has ended and that nobody has asked for its exit code is not alive.
alive() { kill -0 "$1" 2>/dev/null && ! grep -qs '^State:[[:space:]]*Z' "/proc/$1/status"; }
healthy() { "$NEW" health --url "http://$NODE_HOST:$1" >/dev/null 2>&1; }
all_healthy() {
  local port
  for port in "$@"; do healthy "$port" || fail "the node on port $port is not well: see to that first"; done
}

start() { # binary, port
  if [ -n "${START:-}" ]; then
    BINARY=$1 PORT=$2 bash -c "$START"
    return
  fi
  mkdir -p "$RUN_DIR"
  PORT=$2 nohup "$1" serve >>"$RUN_DIR/$2.log" 2>&1 </dev/null &
  echo $! >"$RUN_DIR/$2.pid"
}

stop() { # port
  if [ -n "${STOP:-}" ]; then
    PORT=$1 bash -c "$STOP"
    return
  fi
  local pid deadline=$((SECONDS + PATIENCE))
  pid=$(cat "$RUN_DIR/$1.pid") || fail "nobody knows the process on port $1"
  kill -TERM "$pid"
  while alive "$pid"; do
    [ "$SECONDS" -lt "$deadline" ] || fail "the node on port $1 (process $pid) does not end"
    sleep 0.05
  done
  rm "$RUN_DIR/$1.pid"
}

# roll BINARY FROM... TO...: for each node the new one first, then the old one's end.
roll() {
  local binary=$1 n from to deadline i
  shift
  n=$(($# / 2))
  for ((i = 1; i <= n; i++)); do
    from=${!i} to=$((i + n))
    to=${!to}
    if healthy "$to"; then fail "something serves on port $to already"; fi
    say "node $i of $n: starting $binary on port $to"
    start "$binary" "$to"
    deadline=$((SECONDS + PATIENCE))
    until healthy "$to"; do
      [ "$SECONDS" -lt "$deadline" ] || fail "it does not become well on port $to; the nodes that are there go on serving"
      sleep 0.1
    done
    say "node $i of $n: it is well; giving the balancer $SETTLE s to notice"
    sleep "$SETTLE"
    say "node $i of $n: ending the one on port $from"
    stop "$from"
    if healthy "$from"; then fail "the node on port $from still serves"; fi
    healthy "$to" || fail "the node on port $to is not well any more: stop here, and roll back"
  done
  for ((i = n + 1; i <= 2 * n; i++)); do
    healthy "${!i}" || fail "the node on port ${!i} is not well"
  done
}

migrate() {
  all_healthy "${old_ports[@]}"
  say "expanding the schema with $NEW while the old nodes serve"
  "$NEW" migrate || fail "the migration failed; each is a transaction, so the old nodes go on"
  if [ -n "${EXPAND:-}" ]; then
    local tries=0 problems
    say "running $EXPAND; a lock that is not had within $LOCK_TIMEOUT is asked for again, so that nobody queues behind it"
    until problems=$(PGOPTIONS="-c lock_timeout=$LOCK_TIMEOUT" psql -Xq -v ON_ERROR_STOP=1 -d "$DATABASE_URL" -f "$EXPAND" 2>&1); do
      grep -q 'lock timeout' <<<"$problems" || fail "$problems"
      tries=$((tries + 1))
      [ "$tries" -lt 60 ] || fail "the lock was not had in $tries tries: who holds it? (pg_stat_activity, the oldest xact_start)"
      say "somebody holds the lock; giving way, try $tries"
      sleep 0.5
    done
    [ "$(psql -XAtq -d "$DATABASE_URL" -c "SELECT count(*) FROM pg_index WHERE NOT indisvalid")" = 0 ] ||
      fail "an index was left invalid: DROP INDEX CONCURRENTLY it, and run this again"
  fi
  all_healthy "${old_ports[@]}"
  say "done: the schema is expanded, and the old nodes are well on it"
}

case "${1:-}" in
migrate) migrate ;;
upgrade)
  all_healthy "${old_ports[@]}"
  roll "$NEW" "${old_ports[@]}" "${new_ports[@]}"
  say "done: every node runs $NEW"
  ;;
rollback)
  roll "$OLD" "${new_ports[@]}" "${old_ports[@]}"
  say "done: every node runs $OLD, on the expanded schema"
  ;;
*) fail "say what to do: migrate, upgrade or rollback" ;;
esac
