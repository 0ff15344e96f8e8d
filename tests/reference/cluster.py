"""One target worker and a coordinator, started by `krait up` for the length of a `with` block."""
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

READY_TIMEOUT_S = 120


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def is_ready(krait, address):
    answer = subprocess.run([krait, "status", "--coordinator", address, "--json"], capture_output=True)
    if answer.returncode != 0:
        return False
    workers = json.loads(answer.stdout)["workers"]
    return bool(workers) and all(worker["state"] == "READY" for worker in workers)


def await_ready(process, krait, address, log):
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not is_ready(krait, address):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the cluster is not ready:\n" + log.read_text()[-4000:])
        time.sleep(0.1)


@contextlib.contextmanager
def running(bin_dir, model, **worker):
    """Yields the coordinator's address; `worker` holds fields of WorkerConfig (config.proto)."""
    krait = os.path.join(bin_dir, "krait")
    with tempfile.TemporaryDirectory(prefix="krait-reference-") as scratch:
        folder, address = pathlib.Path(scratch), free_address()
        config = {"run_dir": scratch,
                  "coordinator": {"listen": address, "model_path": model, "model_name": "reference"},
                  "workers": [{"name": "target-0", "role": "TARGET", "model_path": model,
                               "model_name": "reference"} | worker]}
        (folder / "cluster.json").write_text(json.dumps(config))
        log = folder / "up.log"
        with open(log, "w") as sink:
            process = subprocess.Popen([krait, "up", "--config", str(folder / "cluster.json")],
                                       stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        try:
            await_ready(process, krait, address, log)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
