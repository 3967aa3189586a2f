#!/usr/bin/env bash
# What to do when somebody asks and asks.
#
#   rate-limit-storm.sh who      who is turned away, from the servers' logs
#   rate-limit-storm.sh silence  suspend the agent, and wait until it gets nothing
#
# Settings:
#
#   LOGS                who: files of the servers' logs (JSON), by spaces  (required)
#   LINES               who: how many of the last lines of each to read   (100000)
#   IDP                 silence: URL of the server                        (required)
#   ADMIN_ID            silence: client of an admin agent, and            (required)
#   ADMIN_SECRET_FILE   the file of its secret                            (required)
#   AGENT               silence: id of the agent                          (required)
set -euo pipefail
LINES=${LINES:-100000}

say() { echo "== $*"; }
fail() { echo "rate-limit-storm: $*" >&2; exit 1; }
need() {
  local name
  for name in "$@"; do [ -n "${!name:-}" ] || fail "$name is not set: see the top of this script"; done
}

top() { # FIELD: the five values that stand most often beside a 429
  grep -o "\"$1\":\"[^\"]*\"" | cut -d'"' -f4 | sort | uniq -c | sort -rn | head -5 | awk '{ printf "   %7d  %s\n", $1, $2 }'
}

who() {
  need LOGS
  local files refused
  read -ra files <<<"$LOGS"
  refused=$(for file in "${files[@]}"; do tail -n "$LINES" "$file" | grep '"status":429' || true; done)
  if [ -z "$refused" ]; then
    say "done: nobody was turned away"
    return
  fi
  say "$(wc -l <<<"$refused") requests were turned away, from"
  top source <<<"$refused"
  say "by agents, where they had said who they are"
  top agent <<<"$refused"
  say "at"
  grep -o '"route":"[^"]*"' <<<"$refused" | cut -d'"' -f4 | sort | uniq -c | sort -rn | head -5
  say "done: silence an agent, or keep an address out at the balancer"
}

silence() {
  need IDP ADMIN_ID ADMIN_SECRET_FILE AGENT
  local began token answer
  began=$(date +%s%3N)
  token=$(printf 'user = "%s:%s"\n' "$ADMIN_ID" "$(cat "$ADMIN_SECRET_FILE")" |
    curl -fsS --max-time 10 --retry 10 --retry-max-time 60 -K - -d grant_type=client_credentials -d scope=agents:write "$IDP/oauth2/token" |
    sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p') || fail "the admin agent gets no token"
  answer=$(curl -fsS --max-time 10 --retry 10 --retry-max-time 60 -X POST -H 'Content-Type: application/json' -d '{"reason":"rate limit storm"}' -K - \
    "$IDP/agents/$AGENT/suspend" <<<"header = \"Authorization: Bearer $token\"") || fail "the agent was not suspended"
  [[ $answer == *'"status":"suspended"'* ]] || fail "the agent is not suspended: $answer"
  say "done in $(($(date +%s%3N) - began)) ms: the agent gets nothing any more; let its owner mend it, then POST /agents/$AGENT/reactivate"
}

case "${1:-}" in
who | silence) "$1" ;;
*) fail "say what to do: who or silence" ;;
esac
