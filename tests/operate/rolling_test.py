"""Restarts each worker, then each coordinator, under load: no request fails, no token changes."""
import collections
import datetime
import itertools
import threading
import time
import unittest

import grpc

import client
import cluster as clusters
from cluster import get, wait_until

RATE = 20.0  # requests a second, evenly
MOST_AT_ONCE = 100
TOKENS = 32
PROMPTS = [b"%d. A krait is a snake that" % i for i in range(8)]
PATIENCE_SECONDS = 20
TRIES = 2  # of each coordinator, at the least
ENDPOINT_LAG_MS = 1500
ENDS = 3  # of a coordinator that requests run against
REPORTED = 3  # failed requests of which everything is printed


def now():
    """As the processes' logs write it."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


class Request:
    """One of the load's, with what there is to know if it fails."""

    def __init__(self, load, number):
        self.name = f"{load}-{number}"
        self.prompt = PROMPTS[number % len(PROMPTS)]
        self.history = []  # a line a try: when, whom, with which end
        self.answer = None

    def try_at(self, channel, coordinator):
        """Under an id of its own, which the processes' logs name."""
        start, request_id = now(), f"{self.name}-{len(self.history)}"
        self.answer = client.generate("", self.prompt, TOKENS, channel=channel, request_id=request_id)
        self.history.append(f"{start} to {now()} {request_id} at {coordinator}: {self.answer.code}, "
                            f"{len(self.answer.tokens)} tokens {self.answer.details!r}")


class Client:
    """Knows every coordinator. Asks one that it believes in; on UNAVAILABLE before a token it looks for
    another, as a client does that resolves the service's name again. Its patience ends with time and
    tries: a machine too busy to connect may spend all of the time on a single one."""

    def __init__(self, coordinators):
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100),
                   ("grpc.max_reconnect_backoff_ms", 500)]
        self.coordinators = coordinators
        self.channels = [grpc.insecure_channel(one.address, options=options) for one in coordinators]
        self.preferred = 0
        self.turned = 0  # UNAVAILABLE answers that made it turn to another

    def generate(self, request):
        deadline = time.monotonic() + PATIENCE_SECONDS
        chosen = self.preferred
        while True:
            request.try_at(self.channels[chosen], self.coordinators[chosen].name)
            answer = request.answer
            if answer.code != "UNAVAILABLE" or answer.tokens:
                return
            if time.monotonic() > deadline and len(request.history) >= TRIES * len(self.channels):
                return
            self.turned += 1
            chosen = (chosen + 1) % len(self.channels)
            self.preferred = chosen
            time.sleep(0.02)  # between tries of one request, not between requests

    def close(self):
        for channel in self.channels:
            channel.close()


class Load:
    """An open loop: a request every 1/RATE seconds, until it is stopped. Only on a machine that cannot
    run even this does it wait, for MOST_AT_ONCE requests: their threads would take what is left of it."""

    def __init__(self, name, coordinators):
        self.name = name
        self.client = Client(coordinators)
        self.ended = []  # Requests
        self.stopping = threading.Event()
        self.places = threading.Semaphore(MOST_AT_ONCE)
        self.thread = threading.Thread(target=self.run)

    def run(self):
        start, threads = time.monotonic(), []
        for number in itertools.count():
            if self.stopping.wait(max(0.0, start + number / RATE - time.monotonic())):
                break
            self.places.acquire()
            threads.append(threading.Thread(target=self.one, args=(Request(self.name, number),)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def one(self, request):
        try:
            self.client.generate(request)
        except Exception as error:  # counted as a failed request
            request.answer = client.Answer(repr(error), [], 0, 0, 0)
        self.ended.append(request)
        self.places.release()

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

    def setUp(self):
        self.events = []  # what the test did, and when

    def note(self, event):
        self.events.append(f"{now()} {event}")

    def check(self, load):
        failed = [one for one in load.ended if one.answer.code != "OK"]
        codes = collections.Counter(one.answer.code for one in load.ended)
        self.assertEqual(set(codes), {"OK"}, f"{codes}\n{self.report(failed) if failed else ''}")
        changed = [one for one in load.ended if one.answer.tokens != self.expected[one.prompt]]
        if changed:
            self.fail(f"{len(changed)} of {len(load.ended)} have other tokens\n{self.report(changed)}")

    def report(self, requests):
        """All there is about some requests: tries, what the test did, what the processes logged."""
        lines = ["what was done:", *self.events]
        for one in requests[:REPORTED]:
            lines += [f"{one.name}: {one.answer}", *one.history,
                      *self.cluster.lines_about(f"{one.name}-")]
        return "\n".join([*lines, f"all logs: {self.cluster.keep_logs()}"])

    def terminate(self, process):
        self.note(f"SIGTERM to {process.name}")
        process.terminate()

    def wait(self, process):
        self.assertEqual(process.wait(), 0)
        self.note(f"{process.name} has ended")

    def start(self, process):
        process.start()
        self.note(f"{process.name} listens again")
        wait_until(self.everybody_is_there, f"{process.name} is back")
        self.note("everybody is there")

    def everybody_is_there(self):
        return all(ready_targets(one) == len(self.cluster.targets) for one in self.cluster.coordinators)

    def requests_pass(self, load, count):
        """Until so many more have ended: the restart is over, and load has gone on."""
        enough = len(load.ended) + count
        wait_until(lambda: len(load.ended) >= enough, f"{count} more requests")

    def test_each_worker(self):
        with Load("workers", self.cluster.coordinators) as load:
            for target in self.cluster.targets:
                self.requests_pass(load, 20)
                self.terminate(target)
                self.wait(target)
                self.start(target)
            self.requests_pass(load, 20)
        self.check(load)

    def test_each_coordinator(self):
        with Load("coordinators", self.cluster.coordinators) as load:
            for coordinator in self.cluster.coordinators:
                load.client.preferred = self.cluster.coordinators.index(coordinator)
                self.requests_pass(load, 20)
                turned = load.client.turned
                self.terminate(coordinator)
                wait_until(lambda: get(coordinator.admin, "/readyz")[0] != 200, "not ready at once", 5)
                self.wait(coordinator)
                wait_until(lambda: load.client.turned > turned, "clients turn to the other")
                self.start(coordinator)
            self.requests_pass(load, 20)
        self.check(load)

    def test_a_leaving_coordinator_still_accepts(self):
        coordinator = self.cluster.coordinators[0]
        self.terminate(coordinator)
        wait_until(lambda: get(coordinator.admin, "/readyz")[0] != 200, "not ready at once", 5)
        answer = client.generate(coordinator.address, PROMPTS[0], TOKENS)
        self.assertEqual((answer.code, answer.tokens), ("OK", self.expected[PROMPTS[0]]))
        self.wait(coordinator)
        self.start(coordinator)

    def test_whatever_meets_a_coordinator_that_ends_is_unavailable(self):
        """Requests arrive at every moment, the last one too: each is answered, or told to go elsewhere."""
        coordinator = self.cluster.coordinators[0]
        for _ in range(ENDS):
            channels = [grpc.insecure_channel(coordinator.address) for _ in range(4)]
            for channel in channels:
                grpc.channel_ready_future(channel).result(60)
            ended = threading.Event()

            def ask(channel):
                codes = []
                while not ended.is_set():
                    answer = client.generate("", PROMPTS[0], 1, channel=channel)
                    codes.append((answer.code, answer.details) if answer.code != "OK" else "OK")
                return codes

            self.terminate(coordinator)
            timer = threading.Thread(target=lambda: (self.wait(coordinator), ended.set()))
            timer.start()
            codes = client.in_parallel([lambda channel=channel: ask(channel) for channel in channels], 4)
            timer.join()
            for channel in channels:
                channel.close()
            other = [one for one in itertools.chain(*codes) if one != "OK" and one[0] != "UNAVAILABLE"]
            self.assertEqual(other, [])
            self.start(coordinator)


if __name__ == "__main__":
    unittest.main()
