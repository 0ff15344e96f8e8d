"""What the chart's rules, dashboards and runbook say, read from their files."""
import json
import pathlib
import re
import subprocess
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "helm" / "krait" / "rules").glob("*.yaml"))
DASHBOARDS = sorted((ROOT / "helm" / "krait" / "dashboards").glob("*.json"))
RUNBOOK = ROOT / "deploy" / "RUNBOOK.md"


def rules():
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"]
            for rule in group["rules"]]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


def _targets(node):
    if isinstance(node, dict):
        yield from (target["expr"] for target in node.get("targets", []) if "expr" in target)
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def dashboard_expressions():
    """Of every panel, with Grafana's variables filled in."""
    for path in DASHBOARDS:
        for expression in _targets(json.loads(path.read_text())):
            expression = re.sub(r"\$__(rate_)?interval\b", "5m", expression)
            yield path.name, re.sub(r"\$\{?\w+\}?", "x", expression)


def parse_errors(expressions):
    """What promtool says about PromQL expressions; empty if all of them parse."""
    group = {"name": "expressions", "rules": [
        {"record": f"expression:{i}", "expr": text} for i, text in enumerate(expressions)]}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump({"groups": [group]}, file)
        file.flush()
        done = promtool("check", "rules", file.name)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def promtool(*arguments, stdin=None):
    return subprocess.run(["promtool", *map(str, arguments)], input=stdin, capture_output=True,
                          text=True, check=False)


def metrics_of(text):
    """Names of krait_* and process_* series in PromQL or prose; recorded series are not among them."""
    return set(re.findall(r"(?<![\w:])(?:krait|process)_[a-z0-9_]*[a-z0-9]\b(?!:)", text))


def selectors():
    """Every selector of a krait or process series in a rule or dashboard, as PromQL; without Grafana's
    variables, which match anything."""
    texts = [("rules", rule["expr"]) for rule in rules()] + list(dashboard_expressions())
    found = {}
    for where, text in texts:
        for name, labels in re.findall(r"(?<![\w:])((?:krait|process)_\w+)(\{[^}]*\})?", text):
            labels = re.sub(r'\w+=~"x",?', "", labels)
            if name in metrics_of(name):
                found.setdefault(name + labels, set()).add(where)
    return found


def used_metrics():
    """metric -> where it is used."""
    found = {}
    texts = [("rules", rule["expr"]) for rule in rules()] + list(dashboard_expressions())
    for where, text in texts + [("RUNBOOK.md", RUNBOOK.read_text())]:
        for name in metrics_of(text):
            found.setdefault(name, set()).add(where)
    return found
