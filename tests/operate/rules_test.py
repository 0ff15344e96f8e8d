"""Rules, alerts, dashboards and the runbook as files: no process is started."""
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import yaml

import observability
from observability import ROOT, promtool

ALERTS_TEST = pathlib.Path(__file__).parent / "rules" / "alerts_test.yaml"
# Without a model: what they watch is the absence of everything, or a process.
OTHER_LABELS = {"KraitMetricsAbsent", "KraitFileDescriptorsLow", "KraitScrapeFails"}


class RulesTest(unittest.TestCase):
    def test_promtool_finds_no_fault(self):
        done = promtool("check", "rules", "--lint=all", "--lint-fatal", *observability.RULES)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_alerts_fire_and_keep_quiet_as_they_should(self):
        done = promtool("test", "rules", ALERTS_TEST)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_alert_has_a_test_with_traffic_faults_and_neither(self):
        tests = {test["name"]: test for test in yaml.safe_load(ALERTS_TEST.read_text())["tests"]}
        self.assertEqual(set(tests), {alert["alert"] for alert in observability.alerts()})
        for name, test in tests.items():
            series = " ".join(one["series"] for one in test["input_series"])
            if name not in OTHER_LABELS:
                for model in ("fires", "calm", "idle"):
                    self.assertIn(f'model_name="{model}"', series, name)
            self.assertTrue(any(one["exp_samples"] for one in test["promql_expr_test"]), name)

    def test_every_alert_is_described_and_has_an_entry_in_the_runbook(self):
        anchors = {heading.lower() for heading in
                   re.findall(r"^## (\w+)$", observability.RUNBOOK.read_text(), re.M)}
        alerts = observability.alerts()
        for alert in alerts:
            self.assertIn(alert["labels"]["severity"], ("critical", "warning"))
            self.assertLessEqual({"summary", "description", "runbook_url"}, set(alert["annotations"]))
            url, anchor = alert["annotations"]["runbook_url"].split("#")
            self.assertTrue((ROOT / url).is_file(), url)
            self.assertIn(anchor, anchors)
        self.assertEqual(len(anchors), len(alerts))


class DashboardsTest(unittest.TestCase):
    def test_files_are_fresh(self):
        subprocess.run([sys.executable, ROOT / "helm" / "make_dashboards.py", "--check"], check=True)

    def test_expressions_parse(self):
        expressions = [expression for _, expression in observability.dashboard_expressions()]
        self.assertGreater(len(expressions), 50)
        self.assertEqual(observability.parse_errors(expressions), "")

    def test_an_expression_that_does_not_parse_is_found(self):
        self.assertNotEqual(observability.parse_errors(["up", "sum by (rate(x[5m]))"]), "")

    def test_only_series_of_ours_are_used(self):
        """operate/live looks for those in a scrape; what it could not find has no place here."""
        for where, text in observability.dashboard_expressions():
            for name in re.findall(r"(?<![\w:])([a-zA-Z_:][\w:]*)(?=[{[])", text):
                self.assertRegex(name, r"^(krait_|process_|model:)", f"{where}: {text}")

    def test_recorded_series_that_are_used_are_recorded(self):
        recorded = {rule["record"] for rule in observability.rules() if "record" in rule}
        texts = [rule["expr"] for rule in observability.alerts()]
        texts += [expression for _, expression in observability.dashboard_expressions()]
        for text in texts:
            self.assertLessEqual(set(re.findall(r"\bmodel:\w+:\w+", text)), recorded)


class ComposeTest(unittest.TestCase):
    """deploy/docker-compose.yaml and what it mounts, as files: nothing here runs it."""

    def setUp(self):
        self.folder = ROOT / "deploy"
        self.services = yaml.safe_load((self.folder / "docker-compose.yaml").read_text())["services"]

    def test_prometheus_takes_its_configuration_with_the_charts_rules(self):
        text = (self.folder / "prometheus" / "prometheus.yaml").read_text()
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text.replace("/etc/prometheus/rules", str(observability.RULES[0].parent)))
            file.flush()
            done = promtool("check", "config", file.name)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("2 rule files found", done.stdout)

    def test_what_is_mounted_exists(self):
        for name in ("prometheus", "grafana"):
            for volume in self.services[name]["volumes"]:
                self.assertTrue((self.folder / volume.split(":")[0]).exists(), volume)

    def test_flags_are_fields_of_the_configuration(self):
        proto = (ROOT / "proto" / "krait" / "config.proto").read_text()
        for name, message in (("coordinator", "CoordinatorConfig"), ("target", "WorkerConfig"),
                              ("draft", "WorkerConfig")):
            body = re.search(rf"^message {message} {{(.*?)^}}", proto, re.M | re.S)[1]
            for flag in self.services[name]["command"]:
                self.assertRegex(body, rf"\b{flag[2:].split('=')[0]} = \d+;")

    def test_scraped_addresses_are_admin_ports_of_services(self):
        config = yaml.safe_load((self.folder / "prometheus" / "prometheus.yaml").read_text())
        for job in config["scrape_configs"]:
            (target,) = job["static_configs"][0]["targets"]
            service, port = target.split(":")
            self.assertIn(f"--admin_listen=0.0.0.0:{port}", self.services[service]["command"])


if __name__ == "__main__":
    unittest.main()
