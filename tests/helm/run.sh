#!/usr/bin/env bash
# The chart with Helm 4 and Helm 3: lint, render, validate strictly, refuse bad values; generated
# files are fresh. Needs no cluster. A tool that is missing is fetched; one that cannot be had fails.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."

tools=$(deploy/fetch_tools.sh)
export PATH=$tools:$PATH PYTHONPATH=$tools/python PYTHONDONTWRITEBYTECODE=1
python3 helm/make_schema.py --check
python3 helm/make_readme.py --check
command -v curl >/dev/null || { echo "curl is missing: deploy/install_deps.sh" >&2; exit 69; }
if [[ $# == 0 ]]; then python3 tests/helm/scripts_test.py; fi
exec python3 tests/helm/chart_test.py "$@"
