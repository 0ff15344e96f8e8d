#!/usr/bin/env bash
# Builds the unit tests with AddressSanitizer + UBSan and with ThreadSanitizer, and runs them.
#   tests/sanitize.sh [asan|tsan]...   default: both
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

main() {
  local presets=("$@") preset failed=()
  [[ $# -gt 0 ]] || presets=(asan tsan)
  for preset in "${presets[@]}"; do
    [[ $preset == asan || $preset == tsan ]] || { sed -n '2,3s/^# *//p' "$0" >&2; exit 64; }
  done
  deploy/install_deps.sh
  KRAIT_MODEL=$(deploy/fetch_model.sh)
  export KRAIT_MODEL
  # Debian's gRPC and protobuf are not instrumented: a container that crosses into them looks
  # overflowed to ASan's annotations (AddressSanitizerContainerOverflow, "false positives").
  export ASAN_OPTIONS=detect_container_overflow=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
  for preset in "${presets[@]}"; do
    cmake --preset "$preset" >/dev/null
    cmake --build --preset "$preset" --parallel "$(nproc)"
    ctest --preset "$preset" --parallel "$(nproc)" --no-tests=error </dev/null || failed+=("$preset")
  done
  [[ ${#failed[@]} == 0 ]] || { echo "sanitize.sh: failed: ${failed[*]}" >&2; exit 1; }
  echo "sanitize.sh: ${presets[*]} passed"
}

main "$@"
