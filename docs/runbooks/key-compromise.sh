#!/usr/bin/env bash
# What to do when a signing key or the root secret has leaked.
#
#   key-compromise.sh signing-keys   a new signing key at once; what the old ones signed dies
#   key-compromise.sh root-secret    another JWT_SECRET, node by node; tokens go on
#
# After a leak of the root secret run root-secret, then signing-keys. Run it with the
# nodes' own settings in the environment (DATABASE_URL_FILE, JWT_ISSUER, DATA_DIR …), but for
# the root secret, which stands in two files that the nodes have in JWT_SECRET_FILE and
# JWT_SECRET_PREVIOUS_FILE. While nothing is being changed both hold the same. Settings:
#
#   AGENTIDP       the program                                     (agentidp)
#   NODES          URLs of the nodes, by spaces                    (required)
#   SECRET_FILE    file of the root secret                         (required)
#   PREVIOUS_FILE  root-secret: file of the root secret before     (required)
#   NEW_SECRET     root-secret: file of the secret to change to    (one is made up)
#   RESTART        for root-secret: command that puts both files on the node $NODE, restarts it gracefully and
#                  returns                                         (required)
#   OLD_TOKEN      signing-keys: file of a management token from before, to see it die (none)
#   SETTLE         seconds that the balancer needs to notice that a node is ready (10)
#   PATIENCE       seconds to wait for a node                      (60)
set -euo pipefail
umask 077

AGENTIDP=${AGENTIDP:-agentidp}
PATIENCE=${PATIENCE:-60}
SETTLE=${SETTLE:-10}

say() { echo "== $*"; }
fail() { echo "key-compromise: $*" >&2; exit 1; }
needs=(NODES SECRET_FILE)
[ "${1:-}" = root-secret ] && needs+=(RESTART)
for name in "${needs[@]}"; do
  [ -n "${!name:-}" ] || fail "$name is not set: see the top of this script"
done
unset JWT_SECRET JWT_SECRET_PREVIOUS JWT_SECRET_PREVIOUS_FILE
read -ra nodes <<<"$NODES"

# within WHAT COMMAND...: until the command succeeds.
within() {
  local what=$1 deadline=$((SECONDS + PATIENCE))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || fail "$what: not within $PATIENCE s"
    sleep 0.2
  done
}
well() { "$AGENTIDP" health --url "$1"; }
with() { JWT_SECRET_FILE=$1 "$AGENTIDP" "${@:2}"; } # a command under one root secret alone

# restart_all restarts one node after the other.
restart_all() {
  local node
  for node in "${nodes[@]}"; do
    NODE=$node bash -c "$RESTART" || fail "$node was not restarted"
    within "$node is well" well "$node"
    say "  $node is restarted and well"
    sleep "$SETTLE" # or the next node ends before this one gets requests
  done
}

published() { curl -fsS --max-time 5 "$1/.well-known/jwks.json"; }
only_new() { # node, kid, how many keys there may be
  local set
  set=$(published "$1") && [[ $set == *"\"$2\""* ]] && [ "$(grep -o '"kid"' <<<"$set" | wc -l)" -eq 1 ]
}
refused() { # node: the old token does not open the API
  local status
  status=$(curl -sS --max-time 5 -o /dev/null -w '%{http_code}' -H @- "$1/agents?limit=1" <<<"Authorization: Bearer $(cat "$OLD_TOKEN")")
  [ "$status" = 401 ]
}

signing_keys() {
  local began=$SECONDS out kid node
  out=$("$AGENTIDP" keys rotate --help)
  [[ $out == *--revoke-old* ]] || fail "$AGENTIDP has no keys rotate --revoke-old: upgrade it first"
  say "the keys so far"
  with "$SECRET_FILE" keys list
  say "making a new key that signs at once, and taking the old ones away"
  out=$(with "$SECRET_FILE" keys rotate --revoke-old) || fail "no key was made"
  echo "$out"
  kid=$(with "$SECRET_FILE" keys list | awk '$3 == "signing" { print $1 }')
  [ -n "$kid" ] && [[ $out == *"$kid"* ]] || fail "the new key does not sign"
  for node in "${nodes[@]}"; do
    within "$node publishes the new key alone" only_new "$node" "$kid"
    if [ -n "${OLD_TOKEN:-}" ]; then within "$node refuses the old token" refused "$node"; fi
    say "$node publishes $kid and no other key"
  done
  say "done in $((SECONDS - began)) s; who keeps the key set has the new one within five minutes"
}

# everywhere CURRENT PREVIOUS: gives every node these two secrets.
everywhere() {
  # The files are replaced, so that nobody reads half of one.
  printf '%s\n' "$1" >"$SECRET_FILE.next" && mv "$SECRET_FILE.next" "$SECRET_FILE"
  printf '%s\n' "$2" >"$PREVIOUS_FILE.next" && mv "$PREVIOUS_FILE.next" "$PREVIOUS_FILE"
  restart_all
}

root_secret() {
  [ -n "${PREVIOUS_FILE:-}" ] || fail "PREVIOUS_FILE is not set: see the top of this script"
  local old new work
  old=$(cat "$SECRET_FILE")
  [ ! -e "$PREVIOUS_FILE" ] || [ "$(cat "$PREVIOUS_FILE")" = "$old" ] || fail "$PREVIOUS_FILE holds another secret: is a change under way already?"
  new=$([ -n "${NEW_SECRET:-}" ] && cat "$NEW_SECRET" || od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n')
  [ ${#new} -ge 32 ] && [ "$new" != "$old" ] || fail "the new secret must be another one, of at least 32 bytes"
  work=$(mktemp -d)
  trap "rm -rf '$work'" EXIT
  printf '%s\n' "$old" >"$work/old"
  printf '%s\n' "$new" >"$work/new"
  say "seeing that the present secret opens the keys, and that every node is well"
  with "$work/old" keys list || fail "the secret in $SECRET_FILE does not open the keys"
  for node in "${nodes[@]}"; do well "$node" >/dev/null || fail "$node is not well: see to that first"; done

  say "1 of 3: every node gets to know the new secret, and goes on with the old one"
  everywhere "$old" "$new"
  say "2 of 3: every node goes over to the new secret, and still knows the old one"
  everywhere "$new" "$old"
  within "every key is sealed with the new secret" with "$work/new" keys list
  say "3 of 3: every node forgets the old secret"
  everywhere "$new" "$new"

  with "$work/new" keys list || fail "the new secret does not open the keys"
  if with "$work/old" keys list >/dev/null 2>&1; then fail "the old secret still opens the keys"; fi
  say "done: the old secret opens nothing any more; keep the new one where you keep secrets"
}

case "${1:-}" in
signing-keys) signing_keys ;;
root-secret) root_secret ;;
*) fail "say what to do: signing-keys or root-secret" ;;
esac
