"""A client of krait.v1.GenerationService: Python's grpcio, stubs made from proto/ when it is imported."""
import atexit
import dataclasses
import pathlib
import shutil
import sys
import tempfile
import threading
import time

import grpc
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]

_folder = tempfile.mkdtemp(prefix="krait-stubs-")
atexit.register(shutil.rmtree, _folder, True)
if protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={_folder}", f"--grpc_python_out={_folder}",
                "krait/v1/generation.proto"]):
    raise RuntimeError("protoc failed")
sys.path.insert(0, _folder)
from krait.v1 import generation_pb2 as pb  # noqa: E402
from krait.v1 import generation_pb2_grpc as rpc  # noqa: E402


@dataclasses.dataclass
class Answer:
    code: str  # OK, INVALID_ARGUMENT, ...
    tokens: list
    first_token_seconds: float  # from the call; only if there are tokens
    drafts_proposed: int
    drafts_accepted: int
    details: str = ""


def generate(address, prompt, max_tokens, metadata=(), timeout=120, channel=None, request_id="",
             on_first_token=lambda: None, **sampling):
    """One stream, to its end. Checks that tokens come in order, without gap or repeat."""
    request = pb.GenerateRequest(prompt=prompt, request_id=request_id, sampling=pb.SamplingParams(
        max_tokens=max_tokens, ignore_eos=True, **{"temperature": 0, **sampling}))
    own = channel is None
    channel = channel or grpc.insecure_channel(address)
    answer = Answer("OK", [], 0, 0, 0)
    start = time.monotonic()
    try:
        for chunk in rpc.GenerationServiceStub(channel).Generate(request, timeout=timeout, metadata=metadata):
            if chunk.token_ids and not answer.tokens:
                answer.first_token_seconds = time.monotonic() - start
                on_first_token()
            assert chunk.first_index == len(answer.tokens), (chunk.first_index, len(answer.tokens))
            answer.tokens += chunk.token_ids
            if chunk.HasField("usage"):
                answer.drafts_proposed = chunk.usage.speculation.proposed
                answer.drafts_accepted = chunk.usage.speculation.accepted
    except grpc.RpcError as error:
        answer.code, answer.details = error.code().name, error.details()
    finally:
        if own:
            channel.close()
    return answer


def in_parallel(functions, threads):
    """Calls them all, so many at a time; their results in order."""
    results, lock, waiting = [None] * len(functions), threading.Lock(), iter(enumerate(functions))

    def work():
        while True:
            with lock:
                index, function = next(waiting, (None, None))
            if function is None:
                return
            results[index] = function()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results
