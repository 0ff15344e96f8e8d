#!/usr/bin/env bash
# Proves the README's two commands on a machine that has nothing: makes a minimal Debian 12 root with
# debootstrap, clones the committed tree into it and runs both commands there. Not part of CI: it needs
# root, mounts and about 6 GB.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

usage() {
  cat <<'USAGE'
usage: tests/fresh_root.sh [--base-only] [--keep] [DIR]
  DIR          an empty or missing folder for the root (default: a new one in /var/tmp)
  --base-only  make the root and its mounts, run nothing of krait in it
  --keep       leave the root (unmounted) behind
exit codes: 0 both commands succeeded; 64 usage; 69 debootstrap or mounts are not possible here
USAGE
}

say() { echo "fresh_root: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

readonly SUITE=bookworm
keep=0 base_only=0 root=""
mounts=()

parse_arguments() {
  while [[ $# -gt 0 ]]; do
    case "$1" in
      --keep) keep=1 ;;
      --base-only) base_only=1 ;;
      -h | --help) usage; exit 0 ;;
      -*) usage >&2; exit 64 ;;
      *) root=$(realpath -m "$1") ;;
    esac
    shift
  done
  [[ -n $root ]] || root=$(mktemp -d /var/tmp/krait-root.XXXXXX)
  [[ ! -e $root || -z $(ls -A "$root") ]] || die 64 "$root is not empty"
}

# "URI SUITE" of every Debian archive this machine itself uses.
archives() {
  # shellcheck disable=SC2016  # apt fills these in
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v suite="$SUITE" '$3 == "main" && $2 ~ "^" suite "(-updates|-security)?$" {print $1, $2}' |
    sort -u
}

make_root() {
  local mirror
  mirror=$(archives | awk -v suite="$SUITE" '$2 == suite {print $1; exit}')
  [[ -n $mirror ]] || die 69 "apt on this machine has no archive with $SUITE main"
  say "debootstrap $SUITE from $mirror into $root"
  debootstrap --variant=minbase "$SUITE" "$root" "$mirror" >&2 || die 69 "debootstrap failed"
  archives | sed 's/^/deb /; s/$/ main/' >"$root/etc/apt/sources.list"
}

# What a machine in this network would have been given: name service, proxies, trusted authorities.
copy_network_settings() {
  cp -L /etc/resolv.conf "$root/etc/resolv.conf"
  echo "127.0.0.1 localhost" >"$root/etc/hosts"  # the installer would have written it
  mkdir -p "$root/usr/local/share/ca-certificates"
  cp -L /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
  if [[ -f /etc/pip.conf ]]; then cp /etc/pip.conf "$root/etc/pip.conf"; fi
}

mount_into_root() {  # TARGET ARGUMENTS...
  mkdir -p "$root/$1"
  mount "${@:2}" "$root/$1" || die 69 "cannot mount /$1 into the root"
  mounts=("$root/$1" "${mounts[@]}")
}

mount_all() {
  mount_into_root proc -t proc proc
  mount_into_root sys -t sysfs -o ro sysfs
  mount_into_root dev --bind /dev
  mount_into_root dev/pts --bind /dev/pts
  mount_into_root dev/shm -t tmpfs tmpfs
  mount_into_root tmp -t tmpfs -o mode=1777 tmpfs
}

clean_up() {
  local code=$? mount
  trap - EXIT
  for mount in "${mounts[@]}"; do umount "$mount" || keep=1; done
  if [[ $keep == 1 ]]; then
    say "left behind: $root"
  elif ! grep -q " $root/" /proc/mounts; then
    rm -rf --one-file-system "$root"
  fi
  exit "$code"
}

inside() {
  env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
    ${no_proxy:+no_proxy="$no_proxy"} chroot "$root" "$@" </dev/null
}

check_answer() {
  python3 - "$1" <<'PY'
import json, sys
answer = json.load(open(sys.argv[1]))
needed = {"text", "token_ids", "finish_reason", "usage", "time_to_first_token_s", "tokens_per_second",
          "speculation", "topology"}
missing = needed - answer.keys()
assert not missing, f"missing: {missing}"
assert answer["text"] and answer["token_ids"], "no answer"
assert answer["speculation"]["proposed"] > 0 and answer["speculation"]["rounds"] > 0, answer["speculation"]
pids = [process["pid"] for process in answer["topology"]]
assert len(set(pids)) == 3, answer["topology"]
print(json.dumps(answer, indent=1, ensure_ascii=False), file=sys.stderr)
PY
}

run_both_commands() {
  git clone -q --no-hardlinks . "$root/krait"
  [[ -z $(git status --porcelain) ]] || say "uncommitted changes are not tested"
  local start=$SECONDS
  inside /krait/deploy/quickstart.sh --prompt "The capital of France is" --json >"$root/answer.json"
  say "quickstart.sh took $((SECONDS - start)) s"
  check_answer "$root/answer.json"
  start=$SECONDS
  inside /krait/tests/run.sh
  say "run.sh took $((SECONDS - start)) s"
}

main() {
  [[ $(id -u) == 0 ]] || die 69 "needs root"
  command -v debootstrap >/dev/null || die 69 "needs the package debootstrap"
  parse_arguments "$@"
  trap clean_up EXIT
  make_root
  copy_network_settings
  mount_all
  if [[ $base_only == 1 ]]; then
    inside /bin/bash -c 'apt-get -q update && ls /dev/null /proc/self/status' >&2
    say "the root works"
  else
    run_both_commands
  fi
}

main "$@"
