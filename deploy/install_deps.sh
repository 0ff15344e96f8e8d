#!/usr/bin/env bash
# Installs the Debian packages krait is built from. Run again, it finds them installed and returns
# at once, without touching the network. As root, or as a user who may sudo.
set -euo pipefail
shopt -s inherit_errexit

readonly BUILD_PACKAGES=(
  g++ cmake ninja-build pkg-config ccache git ca-certificates python3 python3-pip unzip
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev grpc-proto
  libabsl-dev prometheus-cpp-dev libcpp-httplib-dev nlohmann-json3-dev libcli11-dev
  libpcre2-dev libssl-dev libhwy-dev libgloo-dev
)
readonly TEST_PACKAGES=(
  libgtest-dev libgmock-dev libbenchmark-dev prometheus python3-torch python3-yaml curl
  buildah podman runc catatonit containernetworking-plugins debootstrap
)
readonly SANITIZE_PACKAGES=(clang-14 libclang-rt-14-dev)

usage() {
  cat <<'USAGE'
usage: install_deps.sh [--build-only | --sanitize]
  --build-only  leave out what only the tests need
  --sanitize    add what tests/sanitize.sh needs besides: clang with libFuzzer
exit codes: 0 installed; 64 usage; 69 not a system this script knows, or apt failed
USAGE
}

say() { echo "install_deps: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

missing_packages() {
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      echo "$package"
  done
}

check_system() {
  local id version
  # shellcheck disable=SC1091
  id=$(. /etc/os-release 2>/dev/null && echo "${ID:-}") || true
  # shellcheck disable=SC1091
  version=$(. /etc/os-release 2>/dev/null && echo "${VERSION_ID:-}") || true
  case "$id-$version" in
    debian-12) ;;
    ubuntu-24.04) say "Ubuntu 24.04 has the same package versions, but nobody tests it" ;;
    *) die 69 "this is '${id:-unknown} ${version}', not Debian 12: install the equivalents of: $*" ;;
  esac
}

as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die 69 "needs root to install packages: run as root or install sudo"
  fi
}

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
    -o Dpkg::Use-Pty=0 "$@" </dev/null >&2 || die 69 "apt-get $1 failed (see above)"
}

main() {
  local packages=("${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}")
  case "${1:-}" in
    '') ;;
    --build-only) packages=("${BUILD_PACKAGES[@]}") ;;
    --sanitize) packages+=("${SANITIZE_PACKAGES[@]}") ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 64 ;;
  esac
  command -v dpkg-query >/dev/null || check_system "${packages[@]}"
  local missing
  mapfile -t missing < <(missing_packages "${packages[@]}")
  if [[ ${#missing[@]} == 0 ]]; then
    say "all ${#packages[@]} packages are installed"
    return
  fi
  check_system "${missing[@]}"
  say "installing ${#missing[@]} of ${#packages[@]} packages: ${missing[*]}"
  apt update
  apt install --no-install-recommends "${missing[@]}"
  say "done"
}

main "$@"
