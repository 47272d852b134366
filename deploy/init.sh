#!/bin/sh
# Prepares a first `docker compose up`: .env, three random passwords, the folders.  Changes
# nothing that is there already but the commit that the next build is labelled with, so run it
# again after `git pull`.     sh deploy/init.sh
set -eu
cd "$(dirname "$0")/.."

random_password() { LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 32; }

[ -e .env ] || {
  cp .env.example .env
  # Files written to ./out shall belong to whoever runs this; root keeps the image's own user.
  [ "$(id -u)" = 0 ] || sed -i "s/^NKAT_UID=.*/NKAT_UID=$(id -u)/" .env
}
if revision=$(git describe --always --abbrev=40 --dirty --exclude '*' 2>/dev/null); then
  sed -i "s/^NKAT_REVISION=.*/NKAT_REVISION=$revision/" .env
fi
# The folder keeps other people out; the files inside are readable to the containers' users.
mkdir -p secrets data out
chmod 700 secrets
for name in postgres_password dashboard_password worker_password; do
  [ -s "secrets/$name" ] || random_password >"secrets/$name"
  chmod 444 "secrets/$name"
done
[ "$(id -u)" != 0 ] || chown 10001:0 out
chmod 775 out

user=$(sed -n 's/^DASHBOARD_USER=//p' .env)
port=$(sed -n 's/^DASHBOARD_PORT=//p' .env)
echo "ready: docker compose up -d"
echo "dashboard: http://127.0.0.1:${port:-8080}  user $user  password in secrets/dashboard_password"
