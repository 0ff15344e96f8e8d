#!/usr/bin/env python3
"""Runs everything labelled gpu from a bundle (deploy/bundle.sh) on a machine with a GPU, and prints one
table. A test that fails, dies or hangs costs itself only: its binary is started again without those that
have run. Exit code 0 only if all ran and nothing failed."""

import argparse
import collections
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

# Ops first: what is wrong with one explains what follows.
ORDER = ("kernels_cuda_test", "worker_runner_cuda_test", "worker_engine_cuda_test")

# What no other test covers in a few seconds under a sanitizer: the kernels with shared memory of their
# own, draws, and a model's recorded passes.
SANITIZED = {
    "kernels_cuda_test": "CudaAttentionTest.ACacheInBf16AgreesWithTheCpu:CudaSamplingTest.DrawTokens:"
    "CudaOpsTest.RotateAppend*:CudaOpsTest.RecordedOps*:CudaOpsTest.Bf16Results*:CudaLinearTest.ABf16Input*",
    "worker_runner_cuda_test": "*/CudaRunnerTest.CommittingJOfKIsHavingRunOnlyJ/mixers2A2A_bf16",
}

BEGINS = re.compile(r"\[ RUN      \] (\S+)$")
ENDS = re.compile(r"\[ +(OK|FAILED|SKIPPED) +\] ([^\s,]+).*\((\d+) ms\)$")
CLEAN = re.compile(r"SUMMARY: 0 (errors|hazards)")
OUTCOMES = {"OK": "passed", "FAILED": "failed", "SKIPPED": "skipped"}
COLUMNS = ("passed", "failed", "died", "hung", "not run")
SHOWN_LINES, SHOWN_WIDTH = 14, 180

Result = collections.namedtuple("Result", "test outcome seconds text")


class Process:
    """A test binary that is read line by line; what it writes to stderr goes to `log`."""

    def __init__(self, command, log):
        self._log = log
        with open(log, "w") as stderr:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True,
                                             errors="replace", start_new_session=True)
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def next_line(self, until):
        """None at the end; queue.Empty at the time `until`."""
        return self._lines.get(timeout=max(0.0, until - time.monotonic()))

    def end(self):
        """How it ended; one that a device holds back is left to itself."""
        try:
            return self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            return None

    def kill(self):
        os.killpg(self._process.pid, signal.SIGKILL)
        self.end()

    def threads(self):
        """One word for each: its name and state (R runs, S sleeps, D waits for a device)."""
        words = []
        for task in sorted(pathlib.Path(f"/proc/{self._process.pid}/task").glob("*")):
            try:
                name, state = re.search(r"\((.*)\) (\S)", (task / "stat").read_text()).groups()
            except (OSError, AttributeError):
                continue
            words.append(f"{name}:{state}")
        return "threads " + " ".join(words)

    def last_words(self):
        return pathlib.Path(self._log).read_text(errors="replace").splitlines()[-4:]


class Binary:
    """All tests of one binary, in as many processes as it takes."""

    def __init__(self, path, options, end):
        self._path, self._options, self._end = path, options, end
        self.results = []

    def run(self):
        names = self._names()
        ran, before = [], None
        while len(ran) < len(names) and ran != before and not self._late():
            self._run_once(skip=ran)
            before, ran = ran, [name for name in names if name in self._seen()]
        self.results += [Result(name, "not run", 0, []) for name in names if name not in ran]
        return self.results

    def _late(self):
        return time.monotonic() >= self._end

    def _seen(self):
        return {result.test for result in self.results}

    def _names(self):
        listed = subprocess.run([self._path, "--gtest_list_tests", f"--gtest_filter={self._options.filter}"],
                                capture_output=True, text=True, timeout=120)
        names, suite = [], ""
        for line in listed.stdout.splitlines():
            word = line.split("#")[0].rstrip()
            if word.endswith("."):
                suite = word
            elif word.startswith("  "):
                names.append(suite + word.strip())
        if listed.returncode != 0:
            self._add(None, "died", time.monotonic(), listed.stderr.splitlines()[-4:])
        return names

    def _run_once(self, skip):
        """Until it ends or hangs."""
        filter_ = self._options.filter + ("-" + ":".join(skip) if skip else "")
        log = self._options.logs / f"{self._path.name}.{len(self.results)}.log"
        process = Process([self._path, f"--gtest_filter={filter_}"], log)
        test, text = None, []
        began = time.monotonic()
        while True:
            try:
                line = process.next_line(min(self._end, began + self._options.test_timeout))
            except queue.Empty:
                text += [process.threads(), *process.last_words()]
                process.kill()
                # What the end of all time cut off has not hung.
                self._add(test, "not run" if self._late() else "hung", began, text)
                break
            if line is None:
                code = process.end()
                if test is not None or code not in (0, 1):
                    self._add(test, "died", began, [*text, f"exit code {code}", *process.last_words()])
                break
            if begins := BEGINS.match(line):
                test, text, began = begins[1], [], time.monotonic()
            elif test is not None and (ends := ENDS.match(line)):
                self.results.append(Result(test, OUTCOMES[ends[1]], int(ends[3]) / 1e3, text))
                test, began = None, time.monotonic()
            elif test is not None:
                text.append(line)

    def _add(self, test, outcome, began, text):
        # A name that is always the same: dying there again brings nothing on.
        where = test or f"{self._path.name}.(between tests)"
        self.results.append(Result(where, outcome, time.monotonic() - began, text))


def suite_of(test):
    return test.split(".")[0].split("/")[-1]


def show(result):
    """What went wrong, and what a test has printed."""
    if result.outcome != "passed":
        print(f"{result.outcome.upper()} {result.test} ({result.seconds:.1f} s)")
    elif result.text:
        print(result.test)
    else:
        return
    for line in result.text[:SHOWN_LINES // 2] + result.text[SHOWN_LINES // 2:][-SHOWN_LINES // 2:]:
        print("    " + line[:SHOWN_WIDTH])


def print_table(results):
    suites = {}
    for result in results:
        suites.setdefault(suite_of(result.test), []).append(result)
    print(f"| {'suite':22} | " + " | ".join(COLUMNS) + " | seconds | slowest |")
    print(f"|{'-' * 24}|" + "|".join("-" * (len(c) + 2) for c in COLUMNS) + "|---------|---------|")
    for suite, ran in suites.items():
        counts = collections.Counter(result.outcome for result in ran)
        cells = [f"{counts[c]:>{len(c)}}" for c in COLUMNS]
        slowest = max(ran, key=lambda result: result.seconds)
        print(f"| {suite:22} | " + " | ".join(cells) + f" | {sum(r.seconds for r in ran):7.1f} "
              f"| {slowest.test.split('.', 1)[-1]} {slowest.seconds:.1f} |")
    total = collections.Counter(result.outcome for result in results)
    print(", ".join(f"{total[c]} {c}" for c in (*COLUMNS, "skipped")), flush=True)
    return bool(results) and not any(total[c] for c in COLUMNS[1:])


def run_tests(bundle, options, end):
    paths = sorted((bundle / "tests").iterdir(), key=lambda p: (ORDER.index(p.name) if p.name in ORDER else 99, p))
    results = []
    for path in paths:
        print(f"run_tests: {path.name}", file=sys.stderr, flush=True)
        for result in Binary(path, options, end).run():
            show(result)
            results.append(result)
    return print_table(results)


def sanitize(bundle, options, end):
    """The short filters under compute-sanitizer, one process a binary."""
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not pathlib.Path(tool).exists():
        print("no compute-sanitizer here")
        return False
    clean = True
    for name, filter_ in SANITIZED.items():
        command = [tool, "--tool", options.sanitize, "--print-limit", "5", bundle / "tests" / name,
                   f"--gtest_filter={filter_}", "--gtest_brief=1"]
        seconds = max(1.0, min(200.0, end - time.monotonic()))
        try:
            ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                 errors="replace", timeout=seconds)
            code, lines = ran.returncode, ran.stdout.splitlines()
        except subprocess.TimeoutExpired as late:
            code, lines = "late", (late.stdout or b"").decode(errors="replace").splitlines()
        said = [line for line in lines if line.startswith("=========") or "FAILED" in line]
        clean &= code == 0 and any(CLEAN.search(line) for line in said)
        print(f"{options.sanitize} {name}: exit code {code}")
        print("\n".join("    " + line[:SHOWN_WIDTH] for line in (said or lines)[:25] + said[25:][-2:]), flush=True)
    return clean


def device():
    smi = shutil.which("nvidia-smi")
    query = [smi, "--query-gpu=name,driver_version,memory.used", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, timeout=60).stdout.strip() if smi else "no nvidia-smi"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    parser.add_argument("--filter", default="*", help="as --gtest_filter has it, without negative patterns")
    parser.add_argument("--test-timeout", type=float, default=90, help="seconds of one test")
    parser.add_argument("--timeout", type=float, default=450, help="seconds in all")
    parser.add_argument("--sanitize", choices=("memcheck", "racecheck", "initcheck", "synccheck"),
                        help="instead: a few tests under this tool of compute-sanitizer")
    parser.add_argument("--logs", type=pathlib.Path, default=pathlib.Path("/tmp/krait_gpu_logs"),
                        help="folder for what the binaries write to stderr")
    options = parser.parse_args()
    options.logs.mkdir(parents=True, exist_ok=True)
    print(device(), flush=True)
    end = time.monotonic() + options.timeout
    run = sanitize if options.sanitize else run_tests
    sys.exit(0 if run(options.bundle.resolve(), options, end) else 1)


if __name__ == "__main__":
    main()
