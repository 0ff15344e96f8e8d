#!/usr/bin/env bash
# Prints the folder of the default pair: in it SmolLM2-135M-Mamba2-50 (a hybrid, half of whose
# attention layers became Mamba2 layers) and draft. Both are merged once, out of the base model and the
# overlays in deploy/pair, into a cache outside the repository. Progress goes to standard error.
set -euo pipefail
shopt -s inherit_errexit
ROOT=$(cd "$(dirname "$0")/.." && pwd)
readonly ROOT
readonly OVERLAYS=$ROOT/deploy/pair
readonly CACHE_DIR=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/krait

say() { echo "make_pair: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

verify_overlays() {
  (cd "$OVERLAYS" && sha256sum --check --quiet --strict SHA256SUMS >&2) ||
    die 65 "the overlays in $OVERLAYS are not those of SHA256SUMS"
}

merge() {  # KRAIT BASE FOLDER
  local scratch
  mkdir -p "$CACHE_DIR"
  scratch=$(mktemp -d "$CACHE_DIR/pair.XXXXXX")
  # shellcheck disable=SC2064  # the folder's name is known now
  trap "rm -rf '$scratch'" EXIT
  say "merging the overlays with $2"
  "$1" convert --base "$2" --overlay "$OVERLAYS/mixers.gguf" "$scratch/pair/SmolLM2-135M-Mamba2-50" >&2
  "$1" convert --base "$2" --overlay "$OVERLAYS/draft.gguf" "$scratch/pair/draft" >&2
  # Another process may have been first; both made the same.
  mv -T "$scratch/pair" "$3" 2>/dev/null || [[ -d $3 ]] || die 70 "cannot write $3"
}

main() {
  [[ $# == 2 && -x $1 && -f $2 ]] || die 64 "usage: make_pair.sh KRAIT BASE.gguf (the tool, the base model)"
  verify_overlays
  local folder
  folder=$CACHE_DIR/pair-$(sha256sum "$OVERLAYS/SHA256SUMS" | cut -c1-16)
  [[ -d $folder ]] || merge "$1" "$2" "$folder"
  echo "$folder"
}

main "$@"
