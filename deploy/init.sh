#!/bin/sh
# Prepares a first `docker compose up`: .env, two random passwords, the folders.  Changes
# nothing that is there already.     sh deploy/init.sh
set -eu
cd "$(dirname "$0")/.."

random_password() { LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 32; }

[ -e .env ] || {
  cp .env.example .env
  # Files written to ./out shall belong to whoever runs this; root keeps the image's own user.
  [ "$(id -u)" = 0 ] || sed -i "s/^NKAT_UID=.*/NKAT_UID=$(id -u)/" .env
}
# The folder keeps other people out; the files inside are readable to the containers' users.
mkdir -p secrets data out
chmod 700 secrets
for name in postgres_password dashboard_password; do
  [ -s "secrets/$name" ] || random_password >"secrets/$name"
  chmod 444 "secrets/$name"
done
[ "$(id -u)" != 0 ] || chown 10001:0 out
chmod 775 out

user=$(sed -n 's/^DASHBOARD_USER=//p' .env)
port=$(sed -n 's/^DASHBOARD_PORT=//p' .env)
echo "ready: docker compose up -d"
echo "dashboard: http://127.0.0.1:${port:-8080}  user $user  password in secrets/dashboard_password"
