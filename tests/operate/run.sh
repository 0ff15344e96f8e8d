#!/usr/bin/env bash
# Runs one test of this folder with the tools it needs: run.sh NAME [unittest arguments]. The programs
# are those of KRAIT_BIN_DIR (default build/dev/bin).
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."

[[ $# -ge 1 && -f tests/operate/$1_test.py ]] || { echo "usage: tests/operate/run.sh rules|live|rolling" >&2; exit 64; }
tools=$(deploy/fetch_tools.sh)
export PATH=$tools:$tools/python/bin:$PATH PYTHONPATH=$tools/python:tests/operate PYTHONDONTWRITEBYTECODE=1
export KRAIT_BIN_DIR=${KRAIT_BIN_DIR:-build/dev/bin}
command -v promtool >/dev/null || { echo "promtool is missing: deploy/install_deps.sh" >&2; exit 69; }
name=$1
shift
exec python3 "tests/operate/${name}_test.py" "$@"
