#!/usr/bin/env bash
# Builds and runs the unit tests with AddressSanitizer + UBSan, every C++ test with ThreadSanitizer,
# then every fuzz target (tests/fuzz) for a time, from its seeds.
#   tests/sanitize.sh [asan|tsan|fuzz]...   default: all three
# FUZZ_SECONDS=60: time of each target. A finding is left in build/fuzz/findings.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

readonly FUZZ_SECONDS=${FUZZ_SECONDS:-60}
# Debian's gRPC and protobuf are not instrumented: a container that crosses into them looks
# overflowed to ASan's annotations (AddressSanitizerContainerOverflow, "false positives").
export ASAN_OPTIONS=detect_container_overflow=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1

run_tests() {
  cmake --preset "$1" >/dev/null && cmake --build --preset "$1" --parallel "$(nproc)" || return
  ctest --preset "$1" --parallel "$(nproc)" --no-tests=error </dev/null
}

run_fuzzers() {
  local target name log failed=0
  cmake --preset fuzz >/dev/null && cmake --build --preset fuzz --parallel "$(nproc)" || return
  mkdir -p build/fuzz/findings
  for target in build/fuzz/fuzz/*_fuzz; do
    name=$(basename "$target")
    log=build/fuzz/$name.log
    "$target" "--write_seeds=build/fuzz/corpus/$name" >/dev/null || return
    if "$target" -max_total_time="$FUZZ_SECONDS" -rss_limit_mb=512 -timeout=5 -max_len=65536 \
      -print_final_stats=1 -artifact_prefix="build/fuzz/findings/$name-" \
      "build/fuzz/corpus/$name" >"$log" 2>&1; then
      echo "sanitize.sh: $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, no finding"
    else
      echo "sanitize.sh: $name: FINDING, see $log" >&2
      failed=1
    fi
  done
  return $failed
}

main() {
  local presets=("$@") preset failed=()
  [[ $# -gt 0 ]] || presets=(asan tsan fuzz)
  for preset in "${presets[@]}"; do
    [[ $preset =~ ^(asan|tsan|fuzz)$ ]] || { sed -n '2,5s/^# *//p' "$0" >&2; exit 64; }
  done
  deploy/install_deps.sh --sanitize
  KRAIT_MODEL=$(deploy/fetch_model.sh)
  export KRAIT_MODEL
  for preset in "${presets[@]}"; do
    if [[ $preset == fuzz ]]; then
      run_fuzzers || failed+=("$preset")
    else
      run_tests "$preset" || failed+=("$preset")
    fi
  done
  [[ ${#failed[@]} == 0 ]] || { echo "sanitize.sh: failed: ${failed[*]}" >&2; exit 1; }
  echo "sanitize.sh: ${presets[*]} passed"
}

main "$@"
