#!/usr/bin/env bash
# What to do when Redis is away.
#
#   redis-down.sh look      who says so, and does the service go on?
#   redis-down.sh restore   start it, and wait until every node uses it again
#
# Settings:
#
#   AGENTIDP   the program                                      (agentidp)
#   NODES      URLs of the nodes, by spaces                     (required)
#   START      restore: command that starts Redis and returns   (required)
#   PATIENCE   seconds to wait for the nodes                    (60)
set -euo pipefail
AGENTIDP=${AGENTIDP:-agentidp}
PATIENCE=${PATIENCE:-60}

say() { echo "== $*"; }
fail() { echo "redis-down: $*" >&2; exit 1; }
[ -n "${NODES:-}" ] || fail "NODES is not set: see the top of this script"
read -ra nodes <<<"$NODES"

health() { "$AGENTIDP" health --url "$1" 2>/dev/null; }
# redis_of NODE: what the node says of Redis; nothing where it uses none.
redis_of() { health "$1" | sed -n 's/.*"redis":{"status":"\([a-z]*\)".*/\1/p'; }

look() {
  local node state away=0
  for node in "${nodes[@]}"; do
    health "$node" >/dev/null || fail "$node does not serve: Redis is not your trouble, see its log"
    state=$(redis_of "$node")
    say "$node serves; Redis is ${state:-not used}"
    if [ -n "$state" ] && [ "$state" != ok ]; then away=$((away + 1)); fi
  done
  if [ "$away" -eq ${#nodes[@]} ]; then
    say "done: Redis is away from all nodes: start it"
  elif [ "$away" -gt 0 ]; then
    say "done: $away of ${#nodes[@]} nodes do not reach Redis: look at the network between"
  else
    say "done: all nodes reach Redis"
  fi
}

restore() {
  [ -n "${START:-}" ] || fail "START is not set: see the top of this script"
  local began node deadline
  began=$(date +%s%3N) deadline=$((SECONDS + PATIENCE))
  bash -c "$START" || fail "Redis was not started"
  for node in "${nodes[@]}"; do
    until [ "$(redis_of "$node")" = ok ]; do
      [ "$SECONDS" -lt "$deadline" ] || fail "$node does not use Redis within $PATIENCE s: does REDIS_URL name this one?"
      sleep 0.1
    done
    say "$node uses Redis again"
  done
  say "done in $(($(date +%s%3N) - began)) ms; nothing needs to be restored into it"
}

case "${1:-}" in
look | restore) "$1" ;;
*) fail "say what to do: look or restore" ;;
esac
