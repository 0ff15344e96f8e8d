#!/usr/bin/env bash
# Installs, builds and runs every test that needs no GPU, from a bare Debian 12 machine or a warm
# one. Ends with "N passed, N failed"; exit code 0 only if something ran and nothing failed.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

readonly BUILD_DIR=build/dev
readonly RESULTS=$BUILD_DIR/results

say() { echo "run.sh: $*" >&2; }

# One line a GoogleTest case that was skipped, so that a skip is never mistaken for a pass, and as
# the last line the counts by ctest's own record.
summarize() {
  python3 - "$RESULTS" <<'PY'
import pathlib, sys
import xml.etree.ElementTree as xml

results = pathlib.Path(sys.argv[1])
cases = [case for file in sorted(results.glob("gtest/*.xml")) for case in xml.parse(file).iter("testcase")]
skipped = [case for case in cases if case.get("result") == "skipped"]
for case in skipped:
    print(f"skipped: {case.get('classname')}.{case.get('name')}")
print(f"{len(cases)} GoogleTest cases, {len(skipped)} of them skipped")
status = [case.get("status") for case in xml.parse(results / "ctest.xml").iter("testcase")]
passed = status.count("run")
print(f"{passed} passed, {len(status) - passed} failed")
sys.exit(0 if passed and passed == len(status) else 1)
PY
}

# Compiles and links what only the preset cuda has. Its tests need a GPU: tests/gpu/run.sh.
build_cuda() {
  if ! command -v nvcc >/dev/null && [[ ! -x /usr/local/cuda/bin/nvcc ]]; then
    say "no nvcc: the CUDA backend is not built"
    return
  fi
  say "building the CUDA backend"
  cmake --preset cuda >/dev/null
  cmake --build --preset cuda --parallel "$(nproc)" --target kernels_cuda_test
}

main() {
  [[ $# == 0 ]] || { echo "usage: tests/run.sh (no arguments; see tests/README.md)" >&2; exit 64; }
  deploy/install_deps.sh
  say "configuring and building $BUILD_DIR (the first time takes several minutes)"
  cmake --preset dev >/dev/null
  cmake --build --preset dev --parallel "$(nproc)"
  build_cuda
  KRAIT_MODEL=$(deploy/fetch_model.sh)
  rm -rf "$RESULTS"
  mkdir -p "$RESULTS"
  export KRAIT_MODEL GTEST_OUTPUT="xml:$PWD/$RESULTS/gtest/"
  local left_out=()
  # A kernel that lets nobody run containers is no fault of the tree. A missing tool is, below.
  if command -v podman >/dev/null && ! tests/images.sh --probe; then
    say "no container runs here, for the reason above: the test images is left out"
    left_out=(--exclude-regex '^images$')
  fi
  ctest --preset dev --parallel "$(nproc)" --no-tests=error "${left_out[@]}" \
    --output-junit "$PWD/$RESULTS/ctest.xml" </dev/null || say "ctest reports failures"
  summarize
}

main "$@"
