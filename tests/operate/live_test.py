"""A running cluster as Prometheus sees it: clean names, no metric that is used and missing, and counters
that say exactly what the load generator got."""
import collections
import functools
import json
import math
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import unittest

import grpc
import yaml

import client
import cluster as clusters
import observability
from cluster import wait_until

OUTPUT_TOKENS = 16
# Long enough that a first token takes some hundred milliseconds: what a Python client adds to each is
# small beside it.
LONG_PROMPT = b"One day a snake and a mongoose met. " * 40
QUANTILES = (0.5, 0.95)
# Whoever else takes the processor delays the client, which then measures what no server can know: the
# times have to agree in one load of so many, the counters in each.
LOADS = 3


def series_names(text):
    return set(re.findall(r"^# TYPE (\S+) ", text, re.M)) | set(re.findall(r"^([a-z_]\w*)[{ ]", text, re.M))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Prometheus:
    """Debian's, scraping every process of a cluster each second, with the chart's own rules."""

    def __init__(self, cluster):
        self._temporary = tempfile.TemporaryDirectory(prefix="krait-prometheus-")
        self.folder = pathlib.Path(self._temporary.name)
        self.address = f"127.0.0.1:{free_port()}"
        jobs = {"krait-coordinator": cluster.coordinators, "krait-worker": cluster.targets,
                "krait-draft": cluster.drafts}
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in observability.RULES],
            "scrape_configs": [{"job_name": job, "static_configs": [
                {"targets": [process.admin for process in processes]}]} for job, processes in jobs.items()]}
        self.config = self.folder / "prometheus.yaml"
        self.config.write_text(yaml.safe_dump(config))

    def __enter__(self):
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={self.config}",
                 f"--storage.tsdb.path={self.folder / 'data'}",
                 f"--web.listen-address={self.address}"], stdout=log, stderr=log)
        wait_until(lambda: clusters.get(self.address, "/-/ready")[0] == 200, "Prometheus is ready")
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._temporary.cleanup()

    def query(self, expression):
        """labels, as a sorted tuple of pairs -> value"""
        done = observability.promtool("query", "instant", "-o", "json", f"http://{self.address}", expression)
        if done.returncode:
            raise AssertionError(done.stderr)
        answer = json.loads(done.stdout)
        if answer and not isinstance(answer[0], dict):  # a scalar: time and value
            return {(): float(answer[1])}
        return {tuple(sorted((k, v) for k, v in one["metric"].items() if k != "__name__")):
                float(one["value"][1]) for one in answer}

    def number(self, expression):
        found = self.query(expression)
        return next(iter(found.values())) if found else 0.0

    def settle(self, cluster):
        """Until every process has been scraped after this moment."""
        now = self.number("time()")
        expected = len(cluster.processes())
        wait_until(lambda: len(self.query(f"timestamp(up) > {now}")) == expected,
                   "every process was scraped")


class LiveTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(clusters.Cluster())

    def test_metrics_are_clean_for_promtool(self):
        for process in self.cluster.processes():
            done = observability.promtool("check", "metrics", stdin=process.metrics())
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""), process.name)

    def test_every_metric_that_is_used_exists(self):
        there = set().union(*(series_names(process.metrics()) for process in self.cluster.processes()))
        missing = {name: sorted(where) for name, where in observability.used_metrics().items()
                   if name not in there}
        self.assertEqual(missing, {})

    def test_a_trace_is_found_in_the_log(self):
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        answer = client.generate(self.cluster.coordinators[0].address, b"x", 2,
                                 metadata=[("traceparent", f"00-{trace}-00f067aa0ba902b7-01")])
        self.assertEqual(answer.code, "OK", answer.details)
        wait_until(lambda: trace in self.cluster.coordinators[0].log(), "the trace id is logged", 10)

    def test_prometheus_counts_what_the_clients_got(self):
        with Prometheus(self.cluster) as prometheus:
            done = observability.promtool("check", "config", prometheus.config)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            partings = [self.partings_of_a_load(prometheus)]
            while partings[-1] and len(partings) < LOADS:
                partings.append(self.partings_of_a_load(prometheus))
            self.assertEqual(partings[-1], [], partings)
            self.assertEqual(self.evaluated(prometheus), {"ok"})

    def partings_of_a_load(self, prometheus):
        prometheus.settle(self.cluster)
        before = self.counters(prometheus)
        answers = self.load()
        prometheus.settle(self.cluster)
        after = self.counters(prometheus)
        got = {name: after[name] - before.get(name, 0) for name in after}
        self.compare_counters(got, answers)
        return self.compare_times(got, answers)

    def test_every_selector_selects_something(self):
        with Prometheus(self.cluster) as prometheus:
            prometheus.settle(self.cluster)
            empty = {selector: sorted(where) for selector, where in observability.selectors().items()
                     if not prometheus.number(f"count({selector})")}
            self.assertEqual(empty, {})

    @staticmethod
    def evaluated(prometheus):
        """Health of the chart's rules in a real Prometheus."""
        wait_until(lambda: "unknown" not in clusters.get(prometheus.address, "/api/v1/rules")[1],
                   "every rule was evaluated")
        answer = json.loads(clusters.get(prometheus.address, "/api/v1/rules")[1])
        return {rule["health"] for group in answer["data"]["groups"] for rule in group["rules"]}

    @staticmethod
    def counters(prometheus):
        """Sums over processes."""
        found = {}
        for name in ("krait_generation_tokens_total", "krait_spec_decode_num_draft_tokens_total",
                     "krait_spec_decode_num_accepted_tokens_total"):
            found[name] = prometheus.number(f"sum({name})")
        for labels, value in prometheus.query('sum by (code) (krait_requests_total{method="Generate"})').items():
            found["code", dict(labels)["code"]] = value
        ttft = 'krait_time_to_first_token_seconds_%s{role="coordinator"}'
        for part in ("sum", "count"):
            found["ttft", part] = prometheus.number(f"sum({ttft % part})")
        for labels, value in prometheus.query(f"sum by (le) ({ttft % 'bucket'})").items():
            found["ttft_le", dict(labels)["le"]] = value
        return found

    def load(self):
        """Good requests and some that are refused."""
        # Connected before: the coordinator's clock starts with the request.
        channel = grpc.insecure_channel(self.cluster.coordinators[0].address)
        grpc.channel_ready_future(channel).result(60)
        ask = functools.partial(client.generate, "", max_tokens=OUTPUT_TOKENS, channel=channel)
        good = [lambda i=i: ask(b"%d " % i + LONG_PROMPT) for i in range(40)]
        bad = [lambda: ask(b"x", temperature=-1) for _ in range(7)]
        answers = client.in_parallel(good + bad, threads=3)
        channel.close()
        return answers

    def compare_counters(self, got, answers):
        codes = {name[1]: int(count) for name, count in got.items() if name[0] == "code" and count}
        self.assertEqual(codes, {"OK": 40, "INVALID_ARGUMENT": 7})
        self.assertEqual(codes, dict(collections.Counter(answer.code for answer in answers)))
        self.assertEqual(got["krait_generation_tokens_total"], sum(len(a.tokens) for a in answers))
        self.assertEqual(got["krait_spec_decode_num_draft_tokens_total"],
                         sum(answer.drafts_proposed for answer in answers))
        self.assertEqual(got["krait_spec_decode_num_accepted_tokens_total"],
                         sum(answer.drafts_accepted for answer in answers))
        self.assertGreater(got["krait_spec_decode_num_accepted_tokens_total"], 0)

    def compare_times(self, got, answers):
        """Where the times part: the server's mean is to be the client's within the larger of 2 % and
        2 ms, its quantiles in the bucket of the client's, where a value that close to a bound counts
        for both sides. Never is the server's mean the longer one."""
        seconds = sorted(answer.first_token_seconds for answer in answers if answer.tokens)
        self.assertEqual(got["ttft", "count"], len(seconds))
        mean, server_mean = sum(seconds) / len(seconds), got["ttft", "sum"] / len(seconds)
        self.assertLess(server_mean, mean + 0.002)
        partings = []
        if abs(server_mean - mean) > max(0.02 * mean, 0.002):
            partings.append(f"mean: client {mean}, server {server_mean}")
        buckets = sorted((float(name[1]), count) for name, count in got.items() if name[0] == "ttft_le")
        for quantile in QUANTILES:
            rank = math.ceil(quantile * len(seconds))
            low = 0.0
            for high, count in buckets:
                if count >= rank:
                    break
                low = high
            slack = max(0.02 * seconds[rank - 1], 0.002)
            if not low - slack < seconds[rank - 1] <= high + slack:
                partings.append(f"p{quantile}: client {seconds[rank - 1]}, server ({low}, {high}]")
        return partings


if __name__ == "__main__":
    unittest.main()
