#!/usr/bin/env bash
# Sees to it that the tests have the real PostgreSQL, Redis and haproxy they start, and
# Node.js for the SDK: installs them where it may, and else says what is missing.
set -euo pipefail

# The oldest Node.js that the SDK is for.
node_least=20
node_ok() {
  command -v npm >/dev/null && command -v node >/dev/null && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge $node_least ]
}

missing=()
if ! command -v initdb >/dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then missing+=(postgresql); fi
if ! command -v redis-server >/dev/null; then missing+=(redis-server); fi
command -v curl >/dev/null || missing+=(curl)
# Without these only the deployment guide is not followed, and its test says so.
wanted=()
for program in haproxy openssl; do
  command -v "$program" >/dev/null || wanted+=("$program")
done
node_ok || missing+=(nodejs npm)
[ ${#missing[@]} -eq 0 ] && [ ${#wanted[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]} ${wanted[*]} for the tests"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq || [ ${#missing[@]} -eq 0 ]
  if [ ${#missing[@]} -gt 0 ]; then apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; fi
  if [ ${#wanted[@]} -gt 0 ]; then
    apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null || echo "not installed: ${wanted[*]}; the deployment guide is not followed"
  fi
  node_ok && exit 0
  echo "the SDK needs Node.js $node_least or newer with npm, and the system's packages have $(node --version 2>/dev/null || echo none): see nodejs.org" >&2
  exit 1
fi
[ ${#missing[@]} -eq 0 ] && exit 0
echo "the tests need ${missing[*]} (Node.js $node_least or newer): install them (Debian: apt-get install ${missing[*]}) and run make test again" >&2
exit 1
