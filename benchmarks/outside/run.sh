#!/usr/bin/env bash
# Syne Tune and SMAC3 on the surrogate, in an environment of their own (about 6 GB: Syne Tune's
# extras bring a torch).  Goes on where it stopped.
#
#     bash benchmarks/outside/run.sh ENVIRONMENT_DIR OUT.jsonl [--seeds 30]
set -Eeuo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
env="$1" out="$2"
shift 2
if [ ! -x "$env/bin/python" ]; then
  python3 -m venv "$env"
  "$env/bin/python" -m pip install --quiet "syne-tune[extra]==0.16.0" "smac==2.4.1" "ConfigSpace==1.2.2"
fi
export OMP_NUM_THREADS=1 # their models are small
export PYTHONPATH="$here/..:$here/../.."
exec "$env/bin/python" "$here/others.py" --out "$out" "$@"
