#!/usr/bin/env bash
# What to do when the record does not verify.
#
#   audit-verification.sh gather   verify once more, and keep what shows what is wrong
#   audit-verification.sh compare  find the last event that two exports have in common
#
# gather exits with 0 where the record is right, with 2 where it is wrong, and with 1 where
# that could not be found out. AGENTIDP_CLIENT_ID and AGENTIDP_CLIENT_SECRET_FILE name a client
# of the operator's organization with audit:read and organizations:admin. Settings:
#
#   AGENTIDP   the program                                         (agentidp)
#   IDP        gather: URL of the server                           (required)
#   EVIDENCE   gather: folder to make for what is found            (required)
#   LOG_KEY    gather: the log's verifier key, as it was kept      (what the state remembers)
#   STATE      gather: file that agentidp audit verify remembers by (its own default)
#   GOOD, BAD  compare: two exports with proofs                    (required)
set -euo pipefail
umask 077
AGENTIDP=${AGENTIDP:-agentidp}

say() { echo "== $*"; }
fail() { echo "audit-verification: $*" >&2; exit 1; }
need() {
  local name
  for name in "$@"; do [ -n "${!name:-}" ] || fail "$name is not set: see the top of this script"; done
}

gather() {
  need IDP EVIDENCE
  local began=$SECONDS code=0 options=(--all)
  [ ! -e "$EVIDENCE" ] || fail "$EVIDENCE is there already: evidence is never written over"
  mkdir -p "$EVIDENCE"
  case $IDP in http://*) options+=(--allow-http) ;; esac
  if [ -n "${STATE:-}" ]; then options+=(--state "$STATE"); fi
  say "keeping what the server says of itself"
  curl -sS --max-time 10 "$IDP/audit/checkpoint" >"$EVIDENCE/checkpoint" || true
  curl -sS --max-time 10 "$IDP/audit/key" >"$EVIDENCE/key" || true
  curl -sS --max-time 10 "$IDP/health" >"$EVIDENCE/health.json" || true
  if [ -n "${LOG_KEY:-}" ]; then
    options+=(--key "$LOG_KEY")
    [ "$LOG_KEY" = "$(cat "$EVIDENCE/key")" ] || say "the server shows another key than the one that was kept: $(cat "$EVIDENCE/key")"
  fi
  say "exporting the whole record, with its proofs"
  local how=(--url "$IDP" --proof --all -o "$EVIDENCE/events.ndjson")
  case $IDP in http://*) how+=(--allow-http) ;; esac
  "$AGENTIDP" audit export "${how[@]}" >"$EVIDENCE/export.txt" 2>&1 || say "it cannot be exported whole: $(tail -1 "$EVIDENCE/export.txt")"
  say "verifying it"
  "$AGENTIDP" audit verify --url "$IDP" "${options[@]}" >"$EVIDENCE/verify.txt" 2>&1 || code=$?
  (cd "$EVIDENCE" && sha256sum -- * >SHA256SUMS)
  sed 's/^/   /' "$EVIDENCE/verify.txt"
  case $code in
  0) say "done in $((SECONDS - began)) s: the record is right" ;;
  2) say "done in $((SECONDS - began)) s: the record is WRONG; $EVIDENCE shows it: copy it away before anything else" ;;
  *) fail "it could not be verified (exit code $code): see $EVIDENCE/verify.txt" ;;
  esac
  return "$code"
}

# lines prints the sequence and leaf hash of each event of an export.
lines() { sed -n 's/^{"sequence":\([0-9]*\),"leafHash":"\([^"]*\)".*/\1 \2/p' "$1"; }

compare() {
  need GOOD BAD
  local first last
  last=$(join <(lines "$GOOD" | sort -k1,1) <(lines "$BAD" | sort -k1,1) | awk '$2 == $3 { if ($1 > most) most = $1 } END { print most + 0 }')
  first=$(join <(lines "$GOOD" | sort -k1,1) <(lines "$BAD" | sort -k1,1) | awk '$2 != $3 && (!least || $1 < least) { least = $1 } END { print least + 0 }')
  if [ "$first" -gt 0 ]; then say "the first event that differs is $first"; else say "no event that both have differs"; fi
  say "done: the last event that both have alike is $last"
}

case "${1:-}" in
gather | compare) "$1" ;;
*) fail "say what to do: gather or compare" ;;
esac
