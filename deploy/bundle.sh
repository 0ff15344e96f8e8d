#!/usr/bin/env bash
# A folder that runs on an Ubuntu 24.04 machine with an NVIDIA driver: stripped binaries of a build with
# the preset cuda, the Debian libraries they need beside them, and tests/gpu/run.sh. glibc and
# libstdc++ are the machine's own, which are newer than Debian 12's.
set -euo pipefail
shopt -s inherit_errexit
ROOT=$(cd "$(dirname "$0")/.." && pwd)
readonly ROOT
readonly BINARIES=(bin/krait bin/krait-engine bin/krait-coordinator bin/krait-worker bin/kernels_bench
  tests/kernels_cuda_test tests/worker_comm_cuda_test tests/worker_runner_cuda_test
  tests/worker_engine_cuda_test)
# Of the machine: the C and C++ run-time, and what comes with the driver and the CUDA toolkit.
readonly OF_THE_MACHINE='^(ld-linux|libc|libm|libdl|librt|libpthread|libresolv|libstdc\+\+|libgcc_s|libcuda|libcudart|libnccl)[.-]'

libraries_of() {  # BINARY...: paths of what the loader finds
  local name arrow path
  ldd "$@" | while read -r name arrow path _; do
    [[ $arrow == '=>' && $path == /* ]] || continue
    [[ $name =~ $OF_THE_MACHINE ]] || echo "$path"
  done | sort -u
}

main() {
  [[ $# == 2 ]] || { echo "usage: bundle.sh BUILD_DIR OUT_DIR" >&2; exit 64; }
  local build out=$2 binary library
  build=$(realpath "$1")
  rm -rf "$out"
  mkdir -p "$out/bin" "$out/tests" "$out/lib"
  for binary in "${BINARIES[@]}"; do
    strip -o "$out/$binary" "$build/$binary"
  done
  mapfile -t libraries < <(libraries_of "${BINARIES[@]/#/$build/}")
  for library in "${libraries[@]}"; do
    strip -o "$out/lib/$(basename "$library")" "$library"
  done
  cp "$ROOT"/tests/gpu/run.sh "$ROOT"/tests/gpu/run_tests.py "$out"
  echo "bundle: $out: $(du -sm "$out" | cut -f1) MiB" >&2
}

main "$@"
