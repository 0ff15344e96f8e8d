#!/usr/bin/env python3
"""Writes the table of values in krait/README.md from values.yaml, where the comment above a value is
its documentation; a value without one is an error. --check only says whether it is fresh."""
import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path(__file__).resolve().parent / "krait"
BEGIN, END = "<!-- values: made by helm/make_readme.py -->", "<!-- end of values -->"


def comments(lines):
    """Dotted path of every key that stands on a line of its own -> the comment right above it."""
    path, comment, found = [], [], {}
    for line in lines:
        text = line.strip()
        key = re.match(r"( *)([A-Za-z_]\w*):", line)
        if text.startswith("#"):
            comment.append(text.lstrip("# "))
            continue
        if key:
            path = path[:len(key[1]) // 2] + [key[2]]
            found[".".join(path)] = " ".join(comment)
        comment = []
    return found


def leaves(value, path, documented):
    """What a user sets: down to scalars, lists, and maps whose members have no lines of their own."""
    members = isinstance(value, dict) and any(
        ".".join(path + [key]) in documented and documented[".".join(path + [key])] for key in value)
    if not path or members:
        for key, member in value.items():
            yield from leaves(member, path + [key], documented)
    else:
        yield ".".join(path), value


def table(text):
    documented = comments(text.splitlines())
    values = yaml.safe_load(text)
    lines = []
    # Single values first: what stands below a heading belongs to it.
    for section, value in sorted(values.items(), key=lambda item: bool(item[1]) and isinstance(item[1], dict)):
        if isinstance(value, dict) and any(f"{section}.{key}" in documented for key in value):
            lines += ["", f"### {section}", "", documented[section], ""]
        elif not lines:
            lines += ["### Names and images", ""]
        if not lines[-1].startswith("|"):
            lines += ["| value | default | |", "|---|---|---|"]
        for path, default in leaves({section: value}, [], documented):
            if not documented.get(path):
                sys.exit(f"values.yaml: {path} has no comment")
            lines.append(f"| `{path}` | `{json.dumps(default)}` | {documented[path]} |")
    return "\n".join(lines)


def main():
    readme = CHART / "README.md"
    old = readme.read_text()
    head, rest = old.split(BEGIN)
    tail = rest.split(END)[1]
    new = f"{head}{BEGIN}\n{table((CHART / 'values.yaml').read_text())}\n{END}{tail}"
    if sys.argv[1:] == ["--check"]:
        if new != old:
            sys.exit("helm/krait/README.md is not fresh: run helm/make_readme.py")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        readme.write_text(new)


if __name__ == "__main__":
    main()
