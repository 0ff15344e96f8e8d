#!/usr/bin/env bash
# From a fresh Debian 12 machine to a streamed answer: installs packages, builds, fetches the base model
# and makes the default pair of it (a hybrid and its draft), starts coordinator + target worker + draft
# worker, asks once.
set -euo pipefail
shopt -s inherit_errexit
ROOT=$(cd "$(dirname "$0")/.." && pwd)
readonly ROOT
readonly BIN=$ROOT/build/release/bin
readonly CACHE_DIR=${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/krait
readonly READY_TIMEOUT_S=120

usage() {
  cat <<'USAGE'
usage: quickstart.sh [options]
  --prompt TEXT         what to continue (default: "The capital of France is")
  --chat                send TEXT as a user's message, through the model's chat template
  --max-tokens N        at most N new tokens (default 64)
  --device DEVICE       where target and draft run: cpu (default), cuda or cuda:N (builds with CUDA)
  --tp N                tensor-parallel ranks of the target worker (default 2; with CUDA 1)
  --processes N         processes that share those ranks (default 1: they are threads of one)
  --draft-tokens K      draft tokens a round: 0 to 15, or "adaptive" (default)
  --json                one JSON document on standard output, everything else on standard error
  --keep                leave the cluster serving and print how to call and stop it
  --model PATH          a Hugging Face folder or .gguf file instead of the default pair; its draft is
                        three of its layers, untrained
exit codes: 0 ok; 64 usage or configuration; 65 bad model; 69 something needed cannot be had;
            70 internal error; 130, 143 interrupted
USAGE
}

say() { echo "quickstart: $*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

prompt="The capital of France is" chat=0 max_tokens=64 tp="" processes=1 device=cpu draft_tokens=adaptive json=0 keep=0 model=""
run_dir="" cluster_pid="" ask_pid="" address=""

need_integer() {  # NAME VALUE LOW HIGH
  if ! [[ $2 =~ ^[0-9]{1,9}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
    die 64 "$1 must be a number from $3 to $4, got '$2'"
  fi
}

parse_arguments() {
  while [[ $# -gt 0 ]]; do
    case "$1" in
      --chat) chat=1 ;;
      --json) json=1 ;;
      --keep) keep=1 ;;
      -h | --help) usage; exit 0 ;;
      --prompt | --max-tokens | --device | --tp | --processes | --draft-tokens | --model)
        [[ $# -gt 1 ]] || die 64 "$1 needs a value"
        case "$1" in
          --prompt) prompt=$2 ;;
          --max-tokens) need_integer "$1" "$2" 1 1000000; max_tokens=$2 ;;
          --device) [[ $2 =~ ^(cpu|cuda(:[0-9]{1,4})?)$ ]] || die 64 "--device must be cpu, cuda or cuda:N, got '$2'"
            device=$2 ;;
          --tp) need_integer "$1" "$2" 1 1024; tp=$2 ;;
          --processes) need_integer "$1" "$2" 1 64; processes=$2 ;;
          --draft-tokens) [[ $2 == adaptive ]] || need_integer "$1" "$2" 0 15; draft_tokens=$2 ;;
          --model) [[ -e $2 ]] || die 65 "--model $2: no such file or folder"; model=$(realpath "$2") ;;
        esac
        shift ;;
      *) usage >&2; die 64 "unknown argument '$1'" ;;
    esac
    shift
  done
  # Ranks on GPUs cannot add up yet.
  [[ -n $tp ]] || { tp=2; [[ $device == cpu ]] || tp=1; }
}

build() {
  say "building (the first time takes several minutes)"
  local cuda=OFF
  [[ $device == cpu ]] || cuda=ON
  cmake -S "$ROOT" --preset release -DKRAIT_CUDA=$cuda >/dev/null || die 70 "cmake cannot configure the build"
  cmake --build "$ROOT/build/release" --parallel "$(nproc)" \
    --target krait-coordinator krait-worker krait-engine krait >&2 || die 70 "the build failed"
}

# Of the files that hold the model's weights and configuration, so that a changed model gets a new draft.
model_digest() {
  if [[ -d $1 ]]; then
    (cd "$1" && find . -maxdepth 1 -type f \( -name '*.safetensors' -o -name '*.json' \) -print0 |
      sort -z | xargs -0r sha256sum | sha256sum | cut -d' ' -f1)
  else
    sha256sum "$1" | cut -d' ' -f1
  fi
}

# Prints the folder of another model's draft: the target's first, third-point and last layer (0, 10 and 29
# of SmolLM2's 30), cut once a model.
cut_draft() {
  local description layers draft scratch
  description=$("$BIN/krait" inspect "$1" --json) || return
  layers=$(python3 -c '
import json, sys
n = json.loads(sys.argv[1])["num_layers"]
print(",".join(str(i) for i in sorted({0, n // 3, n - 1})))' "$description")
  draft=$CACHE_DIR/draft-$(model_digest "$1" | cut -c1-16)-layers-${layers//,/-}
  if [[ ! -d $draft ]]; then
    mkdir -p "$CACHE_DIR"
    scratch=$(mktemp -d "$CACHE_DIR/cut.XXXXXX")
    say "cutting the draft (layers $layers) out of $1"
    "$BIN/krait" convert --in "$1" --out "$scratch/draft" --layers "$layers" --dtype bf16 >&2 ||
      { local code=$?; rm -rf "$scratch"; return "$code"; }
    mv "$scratch/draft" "$draft"
    rmdir "$scratch"
  fi
  echo "$draft"
}

# Prints the coordinator's address: the tools' default port if it is free.
write_config() {  # TARGET DRAFT FILE
  python3 - "$1" "$2" "$3" "$run_dir" "$tp" "$draft_tokens" "$processes" "$device" <<'PY'
import json, os, socket, sys
target, draft, file, run_dir, tp, draft_tokens, processes, device = sys.argv[1:]


def free_port(wanted):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


name = os.path.basename(target).removesuffix(".gguf")
address = f"127.0.0.1:{free_port(50051)}"
# Target and draft share this machine's cores: the default deadline, half a target step, is for a draft
# on a device of its own.
worker = {"name": "target-0", "role": "TARGET", "model_path": target, "model_name": name,
          "tensor_parallel_size": int(tp), "processes": int(processes), "device": device,
          "proposal_deadline_ms": 200}
if draft_tokens != "adaptive":
    worker |= {"max_draft_tokens": int(draft_tokens), "fixed_draft_tokens": True}
config = {"run_dir": run_dir,
          "coordinator": {"listen": address, "model_path": target, "model_name": name},
          "workers": [worker, {"name": "draft-0", "role": "DRAFT", "model_path": draft,
                               "model_name": name, "device": device}]}
with open(file, "w") as out:
    json.dump(config, out, indent=2)
print(address)
PY
}

show_log() { tail -n 20 "$run_dir/up.log" >&2 || true; }

# `krait up` prints one line of JSON once every worker serves and the target reaches its draft.
start_cluster() {
  # Its own session: an interrupt at the terminal reaches this script, which stops the cluster.
  setsid "$BIN/krait" up --config "$run_dir/cluster.json" --json </dev/null \
    >"$run_dir/ready.json" 2>"$run_dir/up.log" &
  cluster_pid=$!
}

stop_cluster() {
  [[ -n $cluster_pid ]] || return 0
  kill -TERM "$cluster_pid" 2>/dev/null || true
  wait "$cluster_pid" 2>/dev/null || true
  cluster_pid=""
}

on_exit() {
  local code=$?
  trap - EXIT INT TERM
  [[ -z $ask_pid ]] || kill -TERM "$ask_pid" 2>/dev/null || true
  stop_cluster
  if [[ $code == 0 && -n $run_dir && $keep == 0 ]]; then rm -rf "$run_dir"; fi
  [[ $code == 0 || -z $run_dir ]] || say "logs are in $run_dir"
  exit "$code"
}

await_ready() {
  local deadline=$((SECONDS + READY_TIMEOUT_S)) code=0
  say "loading the models"
  until [[ -s $run_dir/ready.json ]]; do
    if ! kill -0 "$cluster_pid" 2>/dev/null; then
      wait "$cluster_pid" || code=$?
      cluster_pid=""
      show_log
      die "$((code == 0 ? 70 : code))" "the cluster ended before it was ready"
    fi
    ((SECONDS < deadline)) || { show_log; die 69 "not ready after $READY_TIMEOUT_S s"; }
    sleep 0.2
  done
}

ask() {
  local arguments=(--coordinator "$address" --max-tokens "$max_tokens" --temperature 0)
  if [[ $chat == 1 ]]; then arguments+=(--chat); fi
  if [[ $json == 1 ]]; then arguments+=(--json); fi
  # Beside this script, which so answers signals at once.
  "$BIN/krait" generate "${arguments[@]}" --prompt "$prompt" &
  ask_pid=$!
  wait "$ask_pid"
  ask_pid=""
}

print_how_to_call() {
  cat >&2 <<HOW
The cluster serves on $address (logs and configuration: $run_dir).
  ask:   $BIN/krait generate --coordinator $address --prompt 'Once upon a time'
  watch: $BIN/krait status --coordinator $address
  stop:  kill $cluster_pid
HOW
}

main() {
  parse_arguments "$@"
  trap on_exit EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  "$ROOT/deploy/install_deps.sh" --build-only
  build
  local draft
  if [[ -n $model ]]; then
    draft=$(cut_draft "$model")
  else
    local base pair
    base=$("$ROOT/deploy/fetch_model.sh")
    pair=$("$ROOT/deploy/make_pair.sh" "$BIN/krait" "$base")
    model=$pair/SmolLM2-135M-Mamba2-50 draft=$pair/draft
  fi
  run_dir=$(mktemp -d "${TMPDIR:-/tmp}/krait.XXXXXX")
  address=$(write_config "$model" "$draft" "$run_dir/cluster.json")
  start_cluster
  await_ready
  ask
  if [[ $keep == 1 ]]; then
    print_how_to_call
    cluster_pid=""  # stays up
  fi
}

main "$@"
