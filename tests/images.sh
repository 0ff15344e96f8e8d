#!/usr/bin/env bash
# Builds the coordinator's and the CPU worker's image with buildah on a debootstrap root, and runs them
# with podman as the chart does: numeric user, read-only root, no capabilities. Needs root; not in CI.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

usage() {
  cat <<'USAGE'
usage: tests/images.sh [--binaries DIR] [--base ROOT]
  --binaries DIR  put the programs of DIR (a bin folder of a build on Debian 12) into the images instead
                  of building them inside, which takes half an hour on two cores
  --base ROOT     a minimal Debian 12 root (default: a new one, tests/fresh_root.sh --base-only)
Installs nothing here: needs buildah, podman, runc, debootstrap; with --binaries also krait-tiny-hybrid in DIR.
exit codes: 0 all holds; 64 usage; 69 a tool is missing; 1 otherwise
USAGE
}

say() { echo "images: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

binaries="" base="" work=""
readonly NAMES=(krait-images-coordinator krait-images-worker)

build() { buildah --storage-driver vfs bud --isolation chroot "$@"; }
pod() { podman --storage-driver vfs --cgroup-manager cgroupfs --runtime runc "$@"; }

clean_up() {
  local code=$?
  trap - EXIT
  pod rm --force --ignore "${NAMES[@]}" >/dev/null 2>&1 || true
  rm -rf "$work"
  exit "$code"
}

make_base() {
  if [[ -z $base ]]; then
    base=$work/root
    tests/fresh_root.sh --base-only --keep "$base"
  fi
  mkdir "$work/base"
  tar -C "$base" --exclude=./dev --exclude=./proc --exclude=./sys --exclude=./tmp/* -cf "$work/base/base.tar" .
  printf 'FROM scratch\nADD base.tar /\n' >"$work/base/Dockerfile"
  build --quiet -t localhost/krait-base "$work/base" >/dev/null
}

build_images() {
  local arguments=(-f deploy/Dockerfile --build-arg BASE=localhost/krait-base --build-arg "JOBS=$(nproc)"
    --build-arg "REVISION=$(git rev-parse HEAD)")
  if [[ -n $binaries ]]; then
    mkdir -p "$work/build/out"
    cp "$binaries"/krait{,-engine,-coordinator,-worker} "$work/build/out/"
    arguments+=(--build-context "build=$work/build")
  fi
  for target in coordinator worker; do
    say "building $target"
    build --quiet "${arguments[@]}" --target "$target" -t "localhost/krait/$target:test" . >/dev/null
  done
}

check_labels() {
  local image=localhost/krait/$1:test user title
  user=$(buildah --storage-driver vfs inspect --type image --format '{{.OCIv1.Config.User}}' "$image")
  title=$(buildah --storage-driver vfs inspect --type image --format '{{index .OCIv1.Config.Labels "org.opencontainers.image.title"}}' "$image")
  [[ $user == 10001:10001 && $title == "krait $1" ]] || die 1 "$image: user '$user', title '$title'"
  say "$image runs as $user"
}

run() {  # NAME IMAGE ARGUMENTS...
  pod run --detach --name "$1" --network host --read-only --cap-drop=all \
    --security-opt=no-new-privileges --user 10001:10001 --tmpfs /tmp \
    --volume "$work/model:/models:ro" "localhost/krait/$2:test" "${@:3}" >/dev/null
}

wait_ready() {  # NAME PORT
  for _ in $(seq 240); do
    if python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$2/readyz')" 2>/dev/null; then return; fi
    [[ $(pod inspect --format '{{.State.Running}}' "$1") == true ]] || break
    sleep 0.5
  done
  pod logs "$1" >&2
  die 1 "$1 is not ready"
}

# What the kernel says about the process, whatever podman was told.
check_confinement() {
  local pid status
  pid=$(pgrep --parent "$(pod inspect --format '{{.State.Pid}}' "$1")" | head -n 1)
  status=$(cat "/proc/$pid/status")
  for line in 'Uid:\s+10001\s+10001' 'CapEff:\s+0000000000000000' 'NoNewPrivs:\s+1' 'Seccomp:\s+2'; do
    grep -qP "^$line" <<<"$status" || die 1 "$1: not '$line': $(grep -P "^${line%%:*}" <<<"$status")"
  done
  if pod exec "$1" touch /root-is-writable 2>/dev/null; then die 1 "$1: the root can be written"; fi
  say "$1: user 10001, no capabilities, seccomp, read-only root"
}

ask() {
  local tools answer
  tools=$(deploy/fetch_tools.sh)
  answer=$("$tools/python/bin/buf" curl --protocol grpc --http2-prior-knowledge \
    --data '{"prompt": "YSBrcmFpdA==", "sampling": {"temperature": 0, "maxTokens": 8, "ignoreEos": true}}' \
    http://127.0.0.1:45051/krait.v1.GenerationService/Generate)
  [[ $(grep -c finishReason <<<"$answer") == 1 ]] || die 1 "buf curl: $answer"
  say "buf curl streamed an answer"
  PYTHONPATH=$tools/python:tests/operate PYTHONDONTWRITEBYTECODE=1 python3 -c '
import client
answer = client.generate("127.0.0.1:45051", b"a krait", 8)
assert answer.code == "OK" and len(answer.tokens) == 8, answer'
  say "grpcio streamed an answer"
}

stop() {
  local start=$SECONDS code
  pod stop --time 40 "$1" >/dev/null
  code=$(pod inspect --format '{{.State.ExitCode}}' "$1")
  [[ $code == 0 && $((SECONDS - start)) -lt 20 ]] || die 1 "$1: exit code $code after $((SECONDS - start)) s"
  say "$1: SIGTERM, exit code 0 after $((SECONDS - start)) s"
}

main() {
  while [[ $# -gt 0 ]]; do
    case "$1" in
      --binaries) binaries=$(realpath "$2"); shift ;;
      --base) base=$(realpath "$2"); shift ;;
      -h | --help) usage; exit 0 ;;
      *) usage >&2; exit 64 ;;
    esac
    shift
  done
  for tool in buildah podman runc debootstrap; do
    command -v "$tool" >/dev/null || die 69 "$tool is missing: apt-get install buildah podman runc debootstrap"
  done
  work=$(mktemp -d /var/tmp/krait-images.XXXXXX)
  chmod 755 "$work"
  trap clean_up EXIT
  printf '[containers]\ndefault_ulimits = ["nofile=1024:1024","nproc=1024:1024"]\n' >"$work/containers.conf"
  export CONTAINERS_CONF=$work/containers.conf
  make_base
  build_images
  check_labels coordinator
  check_labels worker
  "${binaries:-build/dev/bin}/krait-tiny-hybrid" "$work/model"
  local common=(--model_path=/models --model_name=tiny)
  run krait-images-coordinator coordinator --listen=127.0.0.1:45051 --admin_listen=127.0.0.1:45090 "${common[@]}"
  run krait-images-worker worker --name=target-0 --threads=1 --kv_cache_mib=32 --listen=127.0.0.1:45061 \
    --admin_listen=127.0.0.1:45091 --coordinators=127.0.0.1:45051 "${common[@]}"
  wait_ready krait-images-worker 45091
  wait_ready krait-images-coordinator 45090
  check_confinement krait-images-coordinator
  check_confinement krait-images-worker
  ask
  pod exec krait-images-coordinator cat /usr/share/krait/sbom.spdx.json | python3 -c '
import json, sys
packages = [package["name"] for package in json.load(sys.stdin)["packages"]]
assert "libgrpc++1.51" in packages, packages
print(f"images: {len(packages)} packages in the SBOM", file=sys.stderr)'
  stop krait-images-worker
  stop krait-images-coordinator
  say "all holds"
}

main "$@"
