#!/usr/bin/env bash
# Clients that nobody here wrote against a running coordinator: buf curl (through reflection),
# Python's grpcio (generated from proto/), h2load. Starts nothing; changes nothing in the cluster.
set -euo pipefail
shopt -s inherit_errexit

usage() {
  cat <<'USAGE'
usage: clients.sh [ADDRESS]
  ADDRESS  a coordinator's host:port that serves (default 127.0.0.1:50051), e.g. of
           deploy/quickstart.sh --keep
Installs buf-bin, grpcio and grpcio-tools into build/clients (pip); h2load is Debian's nghttp2-client.
exit codes: 0 every client got what it asked for; 64 usage; 69 a client cannot be had; 1 otherwise
USAGE
}

readonly ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly VENV=$ROOT/build/clients
work=""

step() { echo "== $*"; }
die() { local code=$1; shift; echo "clients.sh: $*" >&2; exit "$code"; }

install_clients() {
  command -v h2load >/dev/null || die 69 "h2load is missing: apt-get install nghttp2-client"
  [[ -x $VENV/bin/buf ]] && return
  python3 -m venv "$VENV" || die 69 "no Python environment: apt-get install python3-venv"
  "$VENV/bin/pip" install --quiet buf-bin grpcio grpcio-tools || die 69 "pip failed"
}

# The service's description comes from the server alone.
buf_curl() {
  step "buf curl, schema by reflection"
  local response text
  response=$("$VENV/bin/buf" curl --protocol grpc --http2-prior-knowledge \
    --data '{"prompt": "VGhlIGNhcGl0YWwgb2YgRnJhbmNlIGlz", "sampling": {"temperature": 0, "maxTokens": 8}}' \
    "http://$1/krait.v1.GenerationService/Generate")
  echo "$response" | head -n 12
  text=$(echo "$response" | grep -c finishReason)
  [[ $text == 1 ]] || die 1 "buf curl: wanted one message with a finish reason, got $text"
}

grpcio() {
  step "Python grpcio, generated from proto/"
  "$VENV/bin/python" -m grpc_tools.protoc -I "$ROOT/proto" --python_out="$work" \
    --grpc_python_out="$work" krait/v1/generation.proto
  PYTHONPATH=$work "$VENV/bin/python" - "$1" <<'PYTHON'
import sys, grpc
from krait.v1 import generation_pb2 as pb, generation_pb2_grpc as rpc

stub = rpc.GenerationServiceStub(grpc.insecure_channel(sys.argv[1]))
info = stub.GetModelInfo(pb.GetModelInfoRequest(), timeout=10)
print(f"model {info.model}, {info.vocab_size} tokens, context {info.max_context_tokens}")
request = pb.GenerateRequest(chat=pb.Chat(messages=[pb.Message(role="user", content=b"Say hello.")]),
                             sampling=pb.SamplingParams(temperature=0, max_tokens=12))
ids, text = [], b""
for chunk in stub.Generate(request, timeout=60):
    assert chunk.first_index == len(ids), (chunk.first_index, len(ids))
    ids += chunk.token_ids
    text += chunk.text
print(f"{text.decode()!r} ({chunk.usage.completion_tokens} tokens)")
assert len(ids) == chunk.usage.completion_tokens and chunk.finish_reason
try:
    list(stub.Generate(pb.GenerateRequest(prompt=b"x", sampling=pb.SamplingParams(temperature=-1)), timeout=10))
    sys.exit("a temperature of -1 was accepted")
except grpc.RpcError as error:
    print(f"temperature -1: {error.code().name}: {error.details()}")
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
PYTHON
}

# h2load counts HTTP statuses; gRPC's own stands in the trailers, which it does not read.
h2load_unary() {
  step "h2load, 2,000 unary calls over 4 connections of 16 streams"
  printf '\0\0\0\0\0' >"$work/empty"  # one uncompressed message of no bytes
  local report
  report=$(h2load -n 2000 -c 4 -m 16 -d "$work/empty" -H 'content-type: application/grpc' \
    -H 'te: trailers' "http://$1/krait.v1.GenerationService/GetModelInfo")
  grep -E '^(finished|requests|status|time for request)' <<<"$report"
  grep -q 'status codes: 2000 2xx' <<<"$report" || die 1 "h2load: not every call succeeded"
}

main() {
  case "${1:-}" in
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 64 ;;
  esac
  local address=${1:-127.0.0.1:50051}
  install_clients
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  buf_curl "$address"
  grpcio "$address"
  h2load_unary "$address"
  step "all three clients got what they asked for"
}

main "$@"
