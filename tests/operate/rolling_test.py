"""Restarts each worker, then each coordinator, under load: no request fails, no token changes."""
import collections
import itertools
import threading
import time
import unittest

import grpc

import client
import cluster as clusters
from cluster import get, wait_until

RATE = 20.0  # requests a second, evenly
TOKENS = 32
PROMPTS = [b"%d. A krait is a snake that" % i for i in range(8)]
PATIENCE_SECONDS = 20
ENDPOINT_LAG_MS = 1500


class Client:
    """Knows every coordinator. Asks one that it believes in; on UNAVAILABLE before a token it looks for
    another, as a client does that resolves the service's name again."""

    def __init__(self, coordinators):
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100),
                   ("grpc.max_reconnect_backoff_ms", 500)]
        self.channels = [grpc.insecure_channel(one.address, options=options) for one in coordinators]
        self.preferred = 0
        self.turned = 0  # UNAVAILABLE answers that made it turn to another

    def generate(self, prompt):
        deadline = time.monotonic() + PATIENCE_SECONDS
        chosen = self.preferred
        while True:
            answer = client.generate("", prompt, TOKENS, channel=self.channels[chosen])
            turn = answer.code == "UNAVAILABLE" and not answer.tokens and time.monotonic() < deadline
            if not turn:
                return answer
            self.turned += 1
            chosen = (chosen + 1) % len(self.channels)
            self.preferred = chosen
            time.sleep(0.02)  # between tries of one request, not between requests

    def close(self):
        for channel in self.channels:
            channel.close()


class Load:
    """An open loop: a request every 1/RATE seconds, until it is stopped."""

    def __init__(self, coordinators):
        self.client = Client(coordinators)
        self.answers = []  # (prompt, Answer)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        start, requests = time.monotonic(), []
        for number in itertools.count():
            if self.stopping.wait(max(0.0, start + number / RATE - time.monotonic())):
                break
            requests.append(threading.Thread(target=self.one, args=(PROMPTS[number % len(PROMPTS)],)))
            requests[-1].start()
        for request in requests:
            request.join()

    def one(self, prompt):
        try:
            self.answers.append((prompt, self.client.generate(prompt)))
        except Exception as error:  # counted as a failed request
            self.answers.append((prompt, client.Answer(repr(error), [], 0, 0, 0)))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()
        self.client.close()


def ready_targets(coordinator):
    for line in get(coordinator.admin, "/metrics")[1].splitlines():
        if line.startswith("krait_workers{") and 'worker_role="target"' in line and 'state="ready"' in line:
            return int(line.rsplit(" ", 1)[1])
    return 0


class RollingRestartTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(clusters.Cluster(
            coordinators=2, targets=2, draft=False,
            coordinator_fields={"endpoint_lag_ms": ENDPOINT_LAG_MS}))
        cls.expected = {prompt: client.generate(cls.cluster.coordinators[0].address, prompt, TOKENS).tokens
                        for prompt in PROMPTS}

    def check(self, load):
        codes = collections.Counter(answer.code for _, answer in load.answers)
        self.assertEqual(set(codes), {"OK"}, codes)
        for prompt, answer in load.answers:
            self.assertEqual(answer.tokens, self.expected[prompt])

    def everybody_is_there(self):
        return all(ready_targets(one) == len(self.cluster.targets) for one in self.cluster.coordinators)

    def requests_pass(self, load, count):
        """Until so many more have ended: the restart is over, and load has gone on."""
        enough = len(load.answers) + count
        wait_until(lambda: len(load.answers) >= enough, f"{count} more requests")

    def test_each_worker(self):
        with Load(self.cluster.coordinators) as load:
            for target in self.cluster.targets:
                self.requests_pass(load, 20)
                target.terminate()
                self.assertEqual(target.wait(), 0)
                target.start()
                wait_until(self.everybody_is_there, f"{target.name} is back")
            self.requests_pass(load, 20)
        self.check(load)

    def test_each_coordinator(self):
        with Load(self.cluster.coordinators) as load:
            for coordinator in self.cluster.coordinators:
                load.client.preferred = self.cluster.coordinators.index(coordinator)
                self.requests_pass(load, 20)
                turned = load.client.turned
                coordinator.terminate()
                wait_until(lambda: get(coordinator.admin, "/readyz")[0] != 200, "not ready at once", 5)
                self.assertEqual(coordinator.wait(), 0)
                wait_until(lambda: load.client.turned > turned, "clients turn to the other")
                coordinator.start()
                wait_until(self.everybody_is_there, f"{coordinator.name} is back")
            self.requests_pass(load, 20)
        self.check(load)

    def test_a_leaving_coordinator_still_accepts(self):
        coordinator = self.cluster.coordinators[0]
        coordinator.terminate()
        wait_until(lambda: get(coordinator.admin, "/readyz")[0] != 200, "not ready at once", 5)
        answer = client.generate(coordinator.address, PROMPTS[0], TOKENS)
        self.assertEqual((answer.code, answer.tokens), ("OK", self.expected[PROMPTS[0]]))
        self.assertEqual(coordinator.wait(), 0)
        coordinator.start()
        wait_until(self.everybody_is_there, "it is back")


if __name__ == "__main__":
    unittest.main()
