#!/usr/bin/env bash
# Runs everything labelled gpu from a bundle (deploy/bundle.sh), on a machine with a GPU, and prints one
# table. Exit code 0 only if something ran and nothing failed.
set -euo pipefail
shopt -s inherit_errexit
BUNDLE=$(cd "${1:-$(dirname "$0")}" && pwd)
readonly BUNDLE
results=$(mktemp -d)
readonly results
trap 'rm -rf "$results"' EXIT

run_tests() {
  local binary
  for binary in "$BUNDLE"/tests/*; do
    echo "run.sh: $(basename "$binary")" >&2
    # A binary that dies leaves no file, and the run fails.
    GTEST_OUTPUT="xml:$results/$(basename "$binary").xml" "$binary" --gtest_brief=1 || status=1
  done
}

table() {
  python3 - "$results" <<'PY'
import pathlib, sys
import xml.etree.ElementTree as xml

rows, failed, ran = [], 0, 0
for file in sorted(pathlib.Path(sys.argv[1]).glob("*.xml")):
    for suite in xml.parse(file).getroot():
        bad = int(suite.get("failures")) + int(suite.get("errors"))
        rows.append((suite.get("name"), suite.get("tests"), str(bad), suite.get("time")))
        ran, failed = ran + int(suite.get("tests")), failed + bad
print(f"| {'suite':32} | tests | failed | seconds |")
print(f"|{'-' * 34}|-------|--------|---------|")
for name, tests, bad, seconds in rows:
    print(f"| {name:32} | {tests:>5} | {bad:>6} | {float(seconds):7.1f} |")
print(f"{ran - failed} passed, {failed} failed")
sys.exit(0 if ran and not failed else 1)
PY
}

status=0
run_tests
table || status=1
exit "$status"
