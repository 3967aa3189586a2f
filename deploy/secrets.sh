#!/usr/bin/env bash
# Makes what docker-compose.yml needs and nobody else may have: passwords and URLs of the
# database in SECRETS_DIR (./secrets), and JWT_SECRET in ENV_FILE (./.env). What is there
# stays as it is. Settings: DATABASE_HOST (postgres:5432).
set -euo pipefail
umask 077
dir=${SECRETS_DIR:-secrets} env=${ENV_FILE:-.env} host=${DATABASE_HOST:-postgres:5432}
random() { od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'; }
mkdir -p "$dir"
for who in owner role; do
  [ -s "$dir/$who-password" ] || random >"$dir/$who-password"
done
url() { printf 'postgres://%s:%s@%s/agentidp?sslmode=prefer\n' "$1" "$(cat "$dir/$2-password")" "$host"; }
[ -s "$dir/owner-url" ] || url owner owner >"$dir/owner-url"
[ -s "$dir/role-url" ] || url agentidp role >"$dir/role-url"
# The containers' users are not this one, and read these files.
chmod 0444 "$dir"/*
chmod 0711 "$dir"
if ! grep -qs '^JWT_SECRET=.' "$env"; then
  printf 'JWT_SECRET=%s\n' "$(random)" >>"$env"
fi
chmod 0600 "$env"
echo "the secrets are in $dir and in $env: keep copies where you keep secrets"
