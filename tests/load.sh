#!/usr/bin/env bash
# Measures what one coordinator stands on this machine (tests/load/measure_main.cc), then runs the
# leak test at full size. Prints one table. Takes about six minutes after the build, and wants the
# machine for itself.
#   tests/load.sh [NAME...]   measurements by name; default: all, and the leak test
# LOAD_BUILD_DIR=build/release: a build with tests to use. KRAIT_LOAD_REQUESTS=60000.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

readonly BUILD_DIR=${LOAD_BUILD_DIR:-build/release}

main() {
  deploy/install_deps.sh
  KRAIT_MODEL=$(deploy/fetch_model.sh)
  export KRAIT_MODEL KRAIT_BIN_DIR=$PWD/$BUILD_DIR/bin
  if [[ $BUILD_DIR == build/release ]]; then
    cmake --preset release -DKRAIT_BUILD_TESTS=ON >/dev/null
    cmake --build --preset release --parallel "$(nproc)" --target \
      krait-coordinator krait-scripted-worker krait-measure-load load_test
  fi
  local failed=0
  "$BUILD_DIR/bin/krait-measure-load" "$@" || failed=1
  if [[ $# == 0 ]]; then
    export KRAIT_LOAD_REQUESTS=${KRAIT_LOAD_REQUESTS:-60000}
    "$BUILD_DIR/tests/load_test" --gtest_filter='LeakTest.*' || failed=1
  fi
  return $failed
}

main "$@"
