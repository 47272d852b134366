#!/usr/bin/env bash
# Brings the whole service up on a real Docker engine, breaks it in several ways, and checks
# that nothing was lost.  Prints a table; exit code 0 when everything held, 1 when not, 3 when
# there is no engine.  Cleans up after itself.        bash tests/compose/run.sh [--image NAME] [--keep-image]
set -Eeuo pipefail
cd "$(dirname "$0")"
if ! command -v docker >/dev/null || ! docker compose version >/dev/null 2>&1; then
  echo "run.sh: needs docker with its compose plugin; there is none on this machine" >&2
  exit 3
fi
if ! docker info >/dev/null 2>&1; then
  echo "run.sh: no Docker engine answers (is dockerd running, and may you use it?)" >&2
  exit 3
fi
exec python3 scenario.py "$@"
