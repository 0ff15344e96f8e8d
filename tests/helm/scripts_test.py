"""The shell scripts the chart puts into pods, run here: the download Job's and the init container's."""
import functools
import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import unittest

import chart_test

WEIGHTS = b"weights\n" * 1000


class Files(http.server.SimpleHTTPRequestHandler):
    """A folder, and what was asked of it."""

    asked = []  # (path, Authorization header)

    def do_GET(self):
        self.asked.append((self.path, self.headers.get("Authorization")))
        super().do_GET()

    def log_message(self, *_):
        pass


class ScriptsTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "there").mkdir()
        (self.folder / "there" / "model.gguf").write_bytes(WEIGHTS)
        self.models = self.folder / "models"
        self.models.mkdir()
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Files, directory=str(self.folder / "there")))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_address[1]}/model.gguf"
        Files.asked.clear()

    def render(self, sha256):
        values = self.folder / "values.yaml"
        values.write_text(json.dumps({"model": {
            "mountPath": str(self.models), "verify": True, "source": {"type": "download"},
            "files": [{"path": "folder/model.gguf", "url": self.url, "sha256": sha256}]}}))
        return chart_test.render.__wrapped__("helm4", values)

    def run_container(self, container, **environment):
        self.assertEqual(container["command"], ["sh", "-ec"])
        return subprocess.run([*container["command"], *container["args"]], capture_output=True, text=True,
                              env={"PATH": os.environ["PATH"], **environment}, timeout=60, check=False)

    def download(self, sha256, **environment):
        (job,) = chart_test.of_kind(self.render(sha256), "Job")
        (container,) = job["spec"]["template"]["spec"]["containers"]
        return self.run_container(container, **environment)

    def files(self):
        return {str(path.relative_to(self.models)): path.read_bytes()
                for path in self.models.rglob("*") if path.is_file()}

    def test_download_is_checked_and_done_once(self):
        digest = hashlib.sha256(WEIGHTS).hexdigest()
        for _ in range(2):
            done = self.download(digest)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.files(), {"folder/model.gguf": WEIGHTS})
        self.assertEqual(Files.asked, [("/model.gguf", None)])

    def test_download_sends_the_secrets_token(self):
        self.download(hashlib.sha256(WEIGHTS).hexdigest(), TOKEN="secret words")
        self.assertEqual(Files.asked, [("/model.gguf", "Bearer secret words")])

    def test_download_of_another_file_fails_and_takes_no_name(self):
        self.assertNotEqual(self.download("0" * 64).returncode, 0)
        self.assertNotIn("folder/model.gguf", self.files())

    def test_pods_refuse_a_file_that_was_damaged(self):
        path = self.models / "folder" / "model.gguf"
        path.parent.mkdir()
        for data, good in ((WEIGHTS, True), (WEIGHTS[:-1], False)):
            path.write_bytes(data)
            documents = self.render(hashlib.sha256(WEIGHTS).hexdigest())
            for kind in ("Deployment", "StatefulSet"):
                (pod,) = [template["spec"] for _, _, template in
                          chart_test.pod_templates(chart_test.of_kind(documents, kind))]
                (container,) = pod["initContainers"]
                self.assertEqual(self.run_container(container).returncode == 0, good, kind)


if __name__ == "__main__":
    unittest.main(verbosity=1)
