#!/usr/bin/env bash
# Builds the coordinator's and the CPU worker's image with buildah on a debootstrap root, runs them with
# podman as the chart does (numeric user, read-only root, no capabilities), then the chart's own pods and
# its helm tests with `podman play kube`. Needs root. CI runs it with --binaries.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

usage() {
  cat <<'USAGE'
usage: tests/images.sh [--probe] [--binaries DIR] [--base ROOT]
  --binaries DIR  put the programs of DIR (a bin folder of a build on Debian 12) into the images instead
                  of building them inside, which takes half an hour on two cores
  --base ROOT     a minimal Debian 12 root (default: a new one, tests/fresh_root.sh --base-only)
  --probe         only say whether this machine runs containers: 0, or why not and another exit code
Installs nothing here: needs buildah, podman, runc, catatonit, debootstrap, and krait-tiny-hybrid in DIR
(without --binaries: in build/dev/bin). Images and containers live in a folder of its own in /var/tmp.
exit codes: 0 all holds; 64 usage; 69 a tool is missing, or not root; 1 otherwise
USAGE
}

say() { echo "images: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

readonly TAG=0.0.0-test
binaries="" base="" work="" only_probe=0 storage=()

build() { buildah "${storage[@]}" bud --isolation chroot "$@"; }
pod() { podman "${storage[@]}" --cgroup-manager cgroupfs --runtime runc "$@"; }

clean_up() {
  local code=$? path
  trap - EXIT
  if [[ ${#storage[@]} -gt 0 ]]; then
    pod pod rm --force --all >/dev/null 2>&1 || true
    pod rm --force --all >/dev/null 2>&1 || true
  fi
  while read -r path; do umount "$path" || true; done < <(awk -v work="$work/" 'index($2, work) == 1 {print $2}' /proc/mounts | sort -r)
  grep -q " $work/" /proc/mounts || rm -rf --one-file-system "$work"
  exit "$code"
}

# Overlays where the kernel has them: vfs copies the whole root for every layer.
set_up_storage() {
  local driver=vfs probe=$work/probe
  mkdir -p "$probe"/{lower,upper,work,merged}
  if mount -t overlay overlay -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" "$probe/merged" 2>/dev/null; then
    umount "$probe/merged"
    driver=overlay
  fi
  rm -rf "$probe"
  storage=(--root "$work/storage" --runroot "$work/run" --storage-driver "$driver")
  printf '[containers]\ndefault_ulimits = ["nofile=1024:1024","nproc=1024:1024"]\n' >"$work/containers.conf"
  export CONTAINERS_CONF=$work/containers.conf
  say "storage driver $driver"
}

# A container that holds one static program. What is wrong with a machine shows here in seconds.
probe() {
  mkdir "$work/probe"
  cp "$(command -v catatonit)" "$work/probe/"
  printf 'FROM scratch\nADD catatonit /\n' >"$work/probe/Dockerfile"
  build --quiet -t localhost/krait-probe "$work/probe" >/dev/null
  pod run --rm --network host --read-only --cap-drop=all --user 10001:10001 localhost/krait-probe /catatonit --version >/dev/null
  say "this machine runs containers"
}

make_base() {
  if [[ -z $base ]]; then
    base=$work/root
    tests/fresh_root.sh --base-only --keep "$base"
  fi
  mkdir "$work/base"
  tar -C "$base" --exclude=./dev --exclude=./proc --exclude=./sys --exclude=./tmp/* --exclude=./var/cache/apt/archives/*.deb \
    -cf "$work/base/base.tar" .
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
    build "${arguments[@]}" --target "$target" -t "localhost/krait/$target:$TAG" . >"$work/$target.log" 2>&1 ||
      { tail -n 40 "$work/$target.log" >&2; die 1 "$target cannot be built"; }
  done
}

check_image() {
  pod image inspect "localhost/krait/$1:$TAG" | python3 -c '
import json, sys
(image,), name, revision = json.load(sys.stdin), *sys.argv[1:]
config = image["Config"]
labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
assert config["User"] == "10001:10001", config
assert config["Entrypoint"] == ["/usr/bin/tini", "--", f"/usr/local/bin/krait-{name}"], config
assert config["StopSignal"] == "SIGTERM", config
assert labels["title"] == f"krait {name}" and labels["revision"] == revision, labels
assert {"description", "version", "licenses"} <= labels.keys(), labels
size, user = image["Size"] // 10**6, config["User"]
print(f"images: {name}: {size} MB, user {user}", file=sys.stderr)' "$1" "$(git rev-parse HEAD)"
}

run() {  # NAME IMAGE ARGUMENTS...
  pod run --detach --name "$1" --network host --read-only --cap-drop=all \
    --security-opt=no-new-privileges --user 10001:10001 --tmpfs /tmp \
    --volume "$work/models:/models:ro" "localhost/krait/$2:$TAG" "${@:3}" >/dev/null
}

wait_ready() {  # NAME PORT
  for _ in $(seq 480); do
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
  grep -q ' / [^ ]* ro,' "/proc/$pid/mounts" || die 1 "$1: the root can be written"
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

check_sbom() {
  pod exec "$1" cat /usr/share/krait/sbom.spdx.json | python3 -c '
import json, sys
packages = [package["name"] for package in json.load(sys.stdin)["packages"]]
assert "libgrpc++1.51" in packages, packages
print(f"images: {len(packages)} packages in the SBOM", file=sys.stderr)'
}

# Each image by podman run.
run_images() {
  local common=(--model_path=/models/tiny --model_name=tiny)
  run krait-images-coordinator coordinator --listen=127.0.0.1:45051 --admin_listen=127.0.0.1:45090 "${common[@]}"
  run krait-images-worker worker --name=target-0 --threads=1 --kv_cache_mib=32 --listen=127.0.0.1:45061 \
    --admin_listen=127.0.0.1:45091 --coordinators=127.0.0.1:45051 "${common[@]}"
  wait_ready krait-images-worker 45091
  wait_ready krait-images-coordinator 45090
  for name in coordinator worker; do
    check_confinement "krait-images-$name"
    check_sbom "krait-images-$name"
  done
  ask
  stop krait-images-worker
  stop krait-images-coordinator
  pod rm krait-images-worker krait-images-coordinator >/dev/null
}

# Files "NAME.yaml" for podman in $work/pods; their names and grace periods in $work/pods/list.
render_pods() {
  local tools
  tools=$(deploy/fetch_tools.sh)
  mkdir -p "$work/pods"
  "$tools/helm4" template test helm/krait --values tests/images/values.yaml \
    --set "model.source.hostPath.path=$work/models" |
    PYTHONPATH=$tools/python python3 tests/images/kube_pods.py "$work/pods" >"$work/pods/list"
}

play() { pod play kube --network host "$work/pods/$1.yaml" >/dev/null; }

# A helm test: it is over when its container is, and good if that says so.
play_test() {
  local code
  play "$1"
  code=$(pod wait "$1-krait")
  [[ $code == 0 ]] || { pod logs "$1-krait" >&2; die 1 "$1: exit code $code"; }
  say "$1: exit code 0"
}

# As the kubelet ends a pod (but for preStop, which podman has not), while a client's stream runs.
stop_pod() {  # NAME CONTAINERS...
  local grace start=$SECONDS container code
  grace=$(awk -v name="$1" '$1 == name {print $2}' "$work/pods/list")
  pod pod stop --time "$grace" "$1" >/dev/null
  for container in "${@:2}"; do
    code=$(pod inspect --format '{{.State.ExitCode}}' "$1-$container")
    [[ $code == 0 ]] || { pod logs "$1-$container" >&2; die 1 "$1-$container: exit code $code"; }
  done
  [[ $((SECONDS - start)) -lt $grace ]] || die 1 "$1: $((SECONDS - start)) s, its grace period is $grace s"
  say "$1: SIGTERM, exit codes 0 after $((SECONDS - start)) of $grace s"
}

# A stream that is running when the coordinator's and the target's pods are told to go.
stream_across_the_stop() {
  local tools stream
  tools=$(deploy/fetch_tools.sh)
  PYTHONPATH=$tools/python:tests/operate PYTHONDONTWRITEBYTECODE=1 python3 tests/images/long_stream.py \
    127.0.0.1:45051 "$work/streaming" &
  stream=$!
  until [[ -e $work/streaming ]]; do
    kill -0 "$stream" 2>/dev/null || die 1 "no stream began"
    sleep 0.05
  done
  stop_pod test-krait-coordinator-0 coordinator
  wait "$stream" || die 1 "the stream was cut"
  stop_pod test-krait-worker-0 target draft
}

# The chart's pods and helm tests.
run_pods() {
  render_pods
  play test-krait-worker-0
  play test-krait-coordinator-0
  wait_ready test-krait-worker-0-draft 45092
  wait_ready test-krait-worker-0-target 45091
  wait_ready test-krait-coordinator-0-coordinator 45090
  for container in worker-0-target worker-0-draft coordinator-0-coordinator; do
    check_confinement "test-krait-$container"
  done
  ask
  for name in status generate stream; do play_test "test-krait-test-$name"; done
  stream_across_the_stop
}

main() {
  while [[ $# -gt 0 ]]; do
    case "$1" in
      --binaries) binaries=$(realpath "$2"); shift ;;
      --base) base=$(realpath "$2"); shift ;;
      --probe) only_probe=1 ;;
      -h | --help) usage; exit 0 ;;
      *) usage >&2; exit 64 ;;
    esac
    shift
  done
  for tool in buildah podman runc catatonit debootstrap; do
    command -v "$tool" >/dev/null || die 69 "$tool is missing: deploy/install_deps.sh"
  done
  [[ $(id -u) == 0 ]] || die 69 "needs root"
  work=$(mktemp -d /var/tmp/krait-images.XXXXXX)
  chmod 755 "$work"
  trap clean_up EXIT
  set_up_storage
  probe
  if [[ $only_probe == 1 ]]; then return; fi
  make_base
  build_images
  check_image coordinator
  check_image worker
  "${binaries:-build/dev/bin}/krait-tiny-hybrid" "$work/models/tiny"
  run_images
  run_pods
  say "all holds"
}

main "$@"
