#!/usr/bin/env python3
"""run_tests.py over binaries that only speak as GoogleTest does: what each test does is its name."""

import contextlib
import io
import pathlib
import stat
import sys
import tempfile
import unittest
from unittest import mock

import run_tests

FAKE = '''#!{python}
import fnmatch, os, sys, time
NAMES = {names!r}
asked = dict(arg[2:].split("=", 1) for arg in sys.argv[1:] if "=" in arg)
positive, _, negative = asked["gtest_filter"].partition("-")
chosen = [n for n in NAMES if any(fnmatch.fnmatchcase(n, p) for p in positive.split(":"))
          and n not in negative.split(":")]
if "--gtest_list_tests" in sys.argv and not {lists!r}:
    sys.exit("no driver")
if "--gtest_list_tests" in sys.argv:
    for name in chosen:
        print(name.split(".")[0] + ".\\n  " + name.split(".")[1] + "  # GetParam() = 7")
    sys.exit(0)
if {dies_at_start!r}:
    sys.exit(3)
code = 0
for name in chosen:
    print("[ RUN      ] " + name, flush=True)
    if "Says" in name:
        print("12 MiB", flush=True)
    if "Dies" in name:
        print("no such kernel", file=sys.stderr, flush=True)
        os.abort()
    if "Hangs" in name:
        time.sleep(60)
    if "Fails" in name:
        code = 1
        print("a_test.cc:7: Failure\\n[  FAILED  ] " + name + ", where GetParam() = 7 (12 ms)", flush=True)
    else:
        print("[       OK ] " + name + " (1500 ms)", flush=True)
print("[  FAILED  ] Some.Fails, where GetParam() = 7", flush=True)
sys.exit(code)
'''


class RunTestsTest(unittest.TestCase):
    def run_fakes(self, *binaries, dies_at_start=False, lists=True, flags=()):
        """Exit code and output."""
        with tempfile.TemporaryDirectory() as folder:
            tests = pathlib.Path(folder, "tests")
            tests.mkdir()
            for index, names in enumerate(binaries):
                path = tests / f"binary{index}_test"
                path.write_text(FAKE.format(python=sys.executable, names=list(names), dies_at_start=dies_at_start, lists=lists))
                path.chmod(path.stat().st_mode | stat.S_IXUSR)
            arguments = ["run_tests", folder, "--logs", folder + "/logs", *flags]
            out = io.StringIO()
            with mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(out), \
                    contextlib.redirect_stderr(io.StringIO()), self.assertRaises(SystemExit) as end:
                run_tests.main()
        return end.exception.code, out.getvalue()

    def test_all_that_pass_are_one_row_a_suite(self):
        code, out = self.run_fakes(["A.Passes", "A.Says", "Mixers/B.Passes/x2A2A"])
        self.assertEqual(code, 0)
        self.assertIn("A.Says\n    12 MiB\n", out)
        self.assertRegex(out, r"\| A +\| +2 \| +0 \| +0 \| +0 \| +0 \| +3\.0 \| Passes 1\.5 \|")
        self.assertRegex(out, r"\| B +\| +1 \|")
        self.assertTrue(out.endswith("3 passed, 0 failed, 0 died, 0 hung, 0 not run, 0 skipped\n"))

    def test_one_that_fails_dies_or_hangs_costs_itself_only(self):
        names = ["A.Passes", "A.Fails", "A.Dies", "A.Passes2", "A.Hangs", "A.Passes3"]
        code, out = self.run_fakes(names, ["B.Passes"], flags=["--test-timeout", "2"])
        self.assertEqual(code, 1)
        self.assertIn("FAILED A.Fails (0.0 s)\n    a_test.cc:7: Failure\n", out)
        self.assertRegex(out, r"DIED A\.Dies .*\n    exit code -6\n    no such kernel\n")
        self.assertRegex(out, r"HUNG A\.Hangs .*\n    threads \S+:S")
        self.assertTrue(out.endswith("4 passed, 1 failed, 1 died, 1 hung, 0 not run, 0 skipped\n"))

    def test_what_never_starts_is_not_run_for_ever(self):
        code, out = self.run_fakes(["A.Passes"], dies_at_start=True)
        self.assertEqual(code, 1)
        self.assertIn("DIED binary0_test.(between tests)", out)
        self.assertIn("0 passed, 0 failed, 1 died, 0 hung, 1 not run", out)

    def test_what_cannot_even_list_its_tests(self):
        code, out = self.run_fakes(["A.Passes"], lists=False)
        self.assertEqual(code, 1)
        self.assertIn("DIED binary0_test.(between tests) (0.0 s)\n    no driver\n", out)

    def test_time_runs_out(self):
        code, out = self.run_fakes(["A.Passes", "A.Hangs", "A.Passes2"], ["B.Passes"], flags=["--timeout", "2"])
        self.assertEqual(code, 1)
        self.assertIn("1 passed, 0 failed, 0 died, 0 hung, 3 not run", out)

    def test_no_test_is_a_failure(self):
        self.assertEqual(self.run_fakes()[0], 1)
        self.assertEqual(self.run_fakes(["A.Passes"], flags=["--filter", "C.*"])[0], 1)

    def test_a_filter(self):
        code, out = self.run_fakes(["A.Passes", "B.Fails"], ["C.Fails"], flags=["--filter", "A.*:D.*"])
        self.assertEqual(code, 0)
        self.assertIn("1 passed, 0 failed", out)


if __name__ == "__main__":
    unittest.main()
