"""A coordinator, one target worker and perhaps its draft, started by `krait up` for the length of a
`with` block."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time

READY_TIMEOUT_S = 120


def await_ready(process, ready, log):
    """`krait up --json` prints one line once every worker serves."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not ready.read_text().endswith("\n"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the cluster is not ready:\n" + log.read_text()[-4000:])
        time.sleep(0.1)
    return json.loads(ready.read_text())["address"]


@contextlib.contextmanager
def running(bin_dir, model, draft=None, **worker):
    """Yields the coordinator's address; `worker` holds fields of the target's WorkerConfig
    (config.proto), `draft` is the folder of a draft worker's model."""
    krait = os.path.join(bin_dir, "krait")
    with tempfile.TemporaryDirectory(prefix="krait-reference-") as scratch:
        folder = pathlib.Path(scratch)
        config = {"run_dir": scratch, "coordinator": {"model_path": model, "model_name": "reference"},
                  "workers": [{"name": "target-0", "role": "TARGET", "model_path": model,
                               "model_name": "reference"} | worker]}
        if draft:
            config["workers"].append({"name": "draft-0", "role": "DRAFT", "model_path": draft,
                                      "model_name": "reference"})
        (folder / "cluster.json").write_text(json.dumps(config))
        ready, log = folder / "ready.json", folder / "up.log"
        with open(ready, "w") as out, open(log, "w") as errors:
            process = subprocess.Popen([krait, "up", "--config", str(folder / "cluster.json"), "--json"],
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
        try:
            yield await_ready(process, ready, log)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
