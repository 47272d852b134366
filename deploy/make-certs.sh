#!/bin/sh
# A private CA and a server certificate for Postgres, for workers on other hosts.
#
#   sh deploy/make-certs.sh NAME_OR_ADDRESS...    # as the other hosts will write it
#
# Makes secrets/tls/{ca.key,ca.crt,server.key,server.crt}.  Give the other hosts ca.crt only.
# A second call renews the server's certificate with the same CA.
set -eu
[ $# -gt 0 ] || { echo "usage: sh deploy/make-certs.sh NAME_OR_ADDRESS..." >&2; exit 2; }
cd "$(dirname "$0")/.."
dir=${TLS_DIR:-secrets/tls}
days=825
mkdir -p "$dir"
chmod 700 secrets "$dir" 2>/dev/null || true
umask 077

names=
for name in "$@"; do
  case "$name" in
    *:* | [0-9]*.[0-9]*.[0-9]*.[0-9]*) kind=IP ;;
    *) kind=DNS ;;
  esac
  names="$names${names:+,}$kind:$name"
done

if [ ! -s "$dir/ca.key" ]; then
  openssl req -x509 -newkey rsa:3072 -nodes -sha256 -days 3650 -subj "/CN=nkat-search CA" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout "$dir/ca.key" -out "$dir/ca.crt" 2>/dev/null
fi
openssl req -newkey rsa:3072 -nodes -sha256 -subj "/CN=$1" \
  -keyout "$dir/server.key" -out "$dir/server.csr" 2>/dev/null
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$names" >"$dir/server.ext"
openssl x509 -req -sha256 -days "$days" -in "$dir/server.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" \
  -CAcreateserial -extfile "$dir/server.ext" -out "$dir/server.crt" 2>/dev/null
rm -f "$dir/server.csr" "$dir/server.ext"
chmod 444 "$dir/ca.crt" "$dir/server.crt"
echo "made $dir/server.crt for $names, valid $days days; give the other hosts $dir/ca.crt"
