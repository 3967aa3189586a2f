#!/usr/bin/env bash
# What to do when an agent's secret has leaked, or an agent does what it should not.
#
#   compromised-agent.sh secret    another secret; the leaked one and its tokens die
#   compromised-agent.sh agent     the agent is switched off, with all its tokens
#   compromised-agent.sh return    it comes back with a new secret, and no older one
#
# Settings:
#
#   IDP                  URL of the server                            (required)
#   ADMIN_ID             client of an admin agent, and                (required)
#   ADMIN_SECRET_FILE    the file of its secret                       (required)
#   AGENT                id of the agent                              (required)
#   CREDENTIAL           secret: id of the leaked credential          (required)
#   NEW_SECRET_FILE      secret, return: file to make for the new one (required)
#   OLD_TOKEN            file of a token of the agent, to see it die  (none)
#   LEAKED_SECRET_FILE   file of the leaked secret, to see it refused (none)
#   REASON               what the record is to say                    (compromised)
set -euo pipefail
umask 077
REASON=${REASON:-compromised}

say() { echo "== $*"; }
fail() { echo "compromised-agent: $*" >&2; exit 1; }
needs=(IDP ADMIN_ID ADMIN_SECRET_FILE AGENT)
case "${1:-}" in secret) needs+=(CREDENTIAL NEW_SECRET_FILE) ;; return) needs+=(NEW_SECRET_FILE) ;; esac
for name in "${needs[@]}"; do
  [ -n "${!name:-}" ] || fail "$name is not set: see the top of this script"
done
began=$(date +%s%3N)
took() { echo "$(($(date +%s%3N) - began)) ms"; }

# token ID SECRET-FILE SCOPE: prints it; the secret is in no command line.
token() {
  printf 'user = "%s:%s"\n' "$1" "$(cat "$2")" |
    curl -fsS --max-time 10 -K - -d grant_type=client_credentials --data-urlencode "scope=$3" "$IDP/oauth2/token" |
    sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p'
}
admin=$(token "$ADMIN_ID" "$ADMIN_SECRET_FILE" "agents:read agents:write credentials:write tokens:introspect audit:read") || fail "the admin agent gets no token"
[ -n "$admin" ] || fail "the admin agent gets no token"
ask() { # METHOD PATH [curl arguments]
  local method=$1 path=$2
  shift 2
  curl -fsS --max-time 10 -X "$method" -K - "$@" "$IDP$path" <<<"header = \"Authorization: Bearer $admin\""
}
json() { ask "$1" "$2" -H 'Content-Type: application/json' --data-binary "$3"; }
status() { ask GET "/agents/$AGENT" | sed 's/.*"status":"\([a-z]*\)".*/\1/'; }

old_is_dead() {
  if [ -n "${OLD_TOKEN:-}" ]; then
    ask POST /oauth2/introspect --data-urlencode "token@$OLD_TOKEN" | grep -q '"active":false' || fail "a token from before is still active"
    say "a token from before is dead"
  fi
  if [ -n "${LEAKED_SECRET_FILE:-}" ]; then
    if token "$AGENT" "$LEAKED_SECRET_FILE" "" >/dev/null 2>&1; then fail "the leaked secret still gets tokens"; fi
    say "the leaked secret gets no token"
  fi
}
# another makes a credential and keeps its secret; prints its id.
another() {
  local made
  [ ! -e "$NEW_SECRET_FILE" ] || fail "$NEW_SECRET_FILE is there already"
  made=$(json POST "/agents/$AGENT/credentials" "{\"label\":\"after $(date -u +%Y-%m-%d)\"}") || fail "no credential was made"
  sed 's/.*"clientSecret":"\([^"]*\)".*/\1/' <<<"$made" >"$NEW_SECRET_FILE"
  sed 's/.*"id":"\([^"]*\)".*/\1/' <<<"$made"
}
history() {
  say "the last it did or suffered (all of it: GET /audit/events?agentId=$AGENT)"
  { ask GET "/audit/events?agentId=$AGENT&limit=20" && echo; } | sed 's/},{"id"/},\n{"id"/g' |
    sed -n 's/.*"time":"\([^"]*\)".*"action":"\([^"]*\)".*"outcome":"\([^"]*\)".*/   \1  \2  \3/p'
}

secret() {
  local made
  made=$(another)
  say "credential $made is made; its secret is in $NEW_SECRET_FILE: bring it to the agent"
  ask DELETE "/agents/$AGENT/credentials/$CREDENTIAL" || fail "the leaked credential was not revoked"
  say "credential $CREDENTIAL is revoked, and the tokens that were got with it"
  old_is_dead
  history
  say "done in $(took): the leaked secret opens nothing any more"
}

agent() {
  json POST "/agents/$AGENT/suspend" "{\"reason\":\"$REASON\"}" >/dev/null || fail "it was not suspended (is it $(status) already?)"
  [ "$(status)" = suspended ] || fail "it is $(status), not suspended"
  say "the agent is suspended: no node gives it a token"
  old_is_dead
  history
  say "done in $(took): the agent is off; find out what it did before it returns"
}

return_() {
  local made id
  [ "$(status)" = suspended ] || fail "the agent is $(status), not suspended"
  made=$(another)
  for id in $(ask GET "/agents/$AGENT/credentials?limit=200" | grep -o '"id":"[^"]*"' | cut -d'"' -f4); do
    if [ "$id" != "$made" ]; then ask DELETE "/agents/$AGENT/credentials/$id" || fail "credential $id was not revoked"; fi
  done
  say "credential $made is the only one that is left; its secret is in $NEW_SECRET_FILE"
  json POST "/agents/$AGENT/reactivate" "{\"reason\":\"$REASON, mended\"}" >/dev/null || fail "it was not reactivated"
  [ -n "$(token "$AGENT" "$NEW_SECRET_FILE" "")" ] || fail "the agent gets no token with its new secret"
  old_is_dead
  say "done in $(took): the agent works with its new secret"
}

case "${1:-}" in
secret | agent) "$1" ;;
return) return_ ;;
*) fail "say what to do: secret, agent or return" ;;
esac
