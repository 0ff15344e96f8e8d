"""A small cluster of real processes around a generated tiny model, each with ports of its own."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

BIN = pathlib.Path(os.environ.get("KRAIT_BIN_DIR", "build/dev/bin")).resolve()
START_SECONDS = 120  # two busy cores load a tiny model in a few


def get(address, path):
    """(HTTP status, body); status 0 if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def wait_until(condition, what, seconds=START_SECONDS):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


class Process:
    """One krait process; `fields` are those of its configuration (proto/krait/config.proto)."""

    def __init__(self, folder, name, program, fields):
        self.folder, self.name, self.program = folder, name, program
        self.fields = {"log_format": "json", "log_verbosity": 1, **fields}
        self.ports = {}
        self.process = None

    def start(self):
        """Again on the same ports, if it has run before."""
        file = self.folder / f"{self.name}.ports"
        file.unlink(missing_ok=True)
        fields = {**self.fields, "port_file": str(file)}
        for field, port in (("listen", "port"), ("admin_listen", "admin_port")):
            if self.ports:
                fields[field] = f"127.0.0.1:{self.ports[port]}"
        config = self.folder / f"{self.name}.json"
        config.write_text(json.dumps(fields))
        with open(self.folder / f"{self.name}.log", "ab") as log:
            self.process = subprocess.Popen([BIN / self.program, "--config", config], stdout=log,
                                            stderr=log, start_new_session=True)
        wait_until(lambda: file.exists() or self.process.poll() is not None, f"{self.name} listens")
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {self.log()[-2000:]}")
        self.ports = json.loads(file.read_text())
        return self

    @property
    def address(self):
        return f"127.0.0.1:{self.ports['port']}"

    @property
    def admin(self):
        return f"127.0.0.1:{self.ports['admin_port']}"

    def log(self):
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    def is_ready(self):
        return get(self.admin, "/readyz")[0] == 200

    def metrics(self):
        status, text = get(self.admin, "/metrics")
        assert status == 200, f"{self.name}: /metrics gives {status}"
        return text

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds=60):
        return self.process.wait(seconds)

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Cluster:
    """Context manager. A target has the draft if there is one; every worker knows every coordinator."""

    def __init__(self, coordinators=1, targets=1, draft=True, coordinator_fields=None):
        self._temporary = tempfile.TemporaryDirectory(prefix="krait-operate-")
        self.folder = pathlib.Path(self._temporary.name)
        self.model = self.folder / "model"
        subprocess.run([BIN / "krait-tiny-hybrid", self.model], check=True)
        common = {"model_path": str(self.model), "model_name": "tiny"}
        self.coordinators = [
            Process(self.folder, f"coordinator-{i}", "krait-coordinator",
                    {**common, **(coordinator_fields or {})}) for i in range(coordinators)]
        self.drafts = [Process(self.folder, "draft-0", "krait-worker",
                               {**common, "name": "draft-0", "role": "DRAFT", "threads": 1,
                                "kv_cache_mib": 32})] if draft else []
        self.targets = [Process(self.folder, f"target-{i}", "krait-worker",
                                {**common, "name": f"target-{i}", "threads": 1, "kv_cache_mib": 32})
                        for i in range(targets)]

    def processes(self):
        return self.coordinators + self.drafts + self.targets

    def keep_logs(self):
        """A copy of every process's log so far, in a folder that stays: its path."""
        kept = pathlib.Path(tempfile.mkdtemp(prefix="krait-operate-logs-"))
        for process in self.processes():
            shutil.copy(self.folder / f"{process.name}.log", kept)
        return kept

    def lines_about(self, text):
        """Lines of the logs of every process that hold `text`, each after its process's name."""
        return [f"{process.name}: {line}" for process in self.processes()
                for line in process.log().splitlines() if text in line]

    def __enter__(self):
        try:
            for coordinator in self.coordinators:
                coordinator.start()
            registry = [coordinator.address for coordinator in self.coordinators]
            for draft in self.drafts:
                draft.fields["coordinators"] = registry
                draft.start()
            for target in self.targets:
                target.fields["coordinators"] = registry
                if self.drafts:
                    # A step of a tiny model is short, and all share the processors: with the deadline
                    # and the K that follow from a step there may be no drafts at all.
                    target.fields |= {"draft_address": self.drafts[0].address, "max_draft_tokens": 4,
                                      "fixed_draft_tokens": True, "proposal_deadline_ms": 200}
                target.start()
            wait_until(lambda: all(process.is_ready() for process in self.processes()), "all are ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes():
            process.kill()
        self._temporary.cleanup()
