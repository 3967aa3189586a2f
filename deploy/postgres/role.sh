#!/bin/sh
# Makes the role that the server works as, when PostgreSQL's image makes the database.
# agentidp migrate gives it its rights.
set -eu
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" -v password="$(cat /run/secrets/role-password)" <<'SQL'
CREATE ROLE agentidp LOGIN PASSWORD :'password';
SQL
