#!/usr/bin/env python3
"""Fails on an #include between our folders that the table in CONTRIBUTING.md does not allow, and on
gRPC, protobuf or generated code reached, through any chain of our headers, from a folder that must
not see it. `--selftest` plants violations in a scratch tree and expects every one to be found."""
import pathlib
import re
import sys
import tempfile

TOP = ("common", "proto", "kernels", "coordinator", "worker", "tests")
NO_RPC = ("kernels", *(f"worker/{name}" for name in
          ("weights", "sampling", "comm", "cache", "layers", "models", "runner")))
RPC = re.compile(r"^(grpc|grpcpp|google/protobuf|google/rpc)/|\.pb\.h$")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def read_table(text):
    rows = re.findall(r"^\| ([a-z_/.]+) \| ([a-z_/ ]*)\|$", text, re.MULTILINE)
    return {folder: set(listed.split()) for folder, listed in rows if folder != "folder"}


def row_of(path, table):
    """The longest row that is the path itself or a folder above it."""
    return max((r for r in table if path == r or path.startswith(r + "/")), key=len, default="")


def reachable(row, table):
    """Everything a row lists, what their rows list, and so on."""
    seen, todo = {row}, [row]
    while todo:
        for listed in table.get(todo.pop(), ()):
            if listed not in seen:
                seen.add(listed)
                todo.append(listed)
    return seen


def allowed(row, target, table):
    """A listed folder covers its subfolders, unless it is a parent of the includer: then only itself."""
    return any(target == r or (target.startswith(r + "/") and not row.startswith(r + "/") and row != r)
               for r in reachable(row, table))


def our_path(include):
    """Generated code counts as proto/."""
    return "proto/" + include if include.startswith("krait/") or "google/rpc/status" in include else include


def check(root):
    table = read_table((root / "CONTRIBUTING.md").read_text())
    files = {p.relative_to(root).as_posix(): INCLUDE.findall(p.read_text())
             for top in TOP for p in sorted((root / top).rglob("*")) if p.suffix in (".h", ".cc", ".cu", ".cuh")}
    if not table or not files:
        return ["no table in CONTRIBUTING.md, or no sources"]
    errors = []
    for path, includes in files.items():
        row = row_of(path, table)
        for quote, include in includes:
            target = our_path(include)
            if quote == '"' and target.split("/")[0] in TOP and not allowed(row, row_of(target, table), table):
                errors.append(f"{path}: includes {include}, but {row} may not include {row_of(target, table)}")
            if quote == '"' and (root / path).parent.joinpath(include).exists() and include not in files:
                errors.append(f"{path}: {include} is not relative to the root")
        if row in NO_RPC:
            errors += [f"{path}: reaches {chain}" for chain in rpc_chains(path, files)]
    return errors


def rpc_chains(path, files):
    seen, todo, found = {path}, [(path, path)], []
    while todo:
        current, chain = todo.pop()
        for _, include in files[current]:
            if RPC.search(include):
                found.append(f"{chain} -> {include}")
            elif include in files and include not in seen:
                seen.add(include)
                todo.append((include, f"{chain} -> {include}"))
    return found


PLANTED = {  # file: (its one include, whether that is an error)
    "worker/cache/ok.h": ("kernels/core/tensor.h", False),
    "worker/cache/side.h": ("worker/comm/communicator.h", True),
    "worker/models/down.h": ("kernels/core/tensor.h", False),
    "worker/layers/up.cc": ("worker/models/causal_lm.h", True),
    "worker/server/main.cc": ("worker/tools/inspect.h", True),
    "worker/server/parent.cc": ("worker/worker_config.h", False),
    "worker/server/proto.cc": ("krait/v1/generation.pb.h", False),
    "worker/runner/generated.h": ("krait/v1/generation.pb.h", True),
    "worker/runner/chain.h": ("common/carrier.h", True),
    "common/carrier.h": ("grpcpp/grpcpp.h", False),
    "common/up.h": ("kernels/core/tensor.h", True),
    "kernels/core/tensor.h": ("common/token.h", False),
    "kernels/core/relative.h": ("tensor.h", True),
    "kernels/core/rpc.cu": ("google/protobuf/message.h", True),
    "coordinator/server/across.cc": ("worker/engine/engine.h", True),
    "coordinator/routing/sideways.cc": ("coordinator/tokenizer/tokenizer.h", True),
    "tests/worker/any_test.cc": ("worker/tools/inspect.h", False),
}


def selftest(table_text):
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        (root / "CONTRIBUTING.md").write_text(table_text)
        for path, (include, _) in PLANTED.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(f'#pragma once\n#include "{include}"\n')
        caught = {error.split(":")[0] for error in check(root)}
    expected = {path for path, (_, bad) in PLANTED.items() if bad}
    return [f"selftest: missed {path}" for path in sorted(expected - caught)] + \
           [f"selftest: {path} is allowed" for path in sorted(caught - expected)]


if __name__ == "__main__":
    home = pathlib.Path(__file__).resolve().parent.parent
    problems = selftest((home / "CONTRIBUTING.md").read_text()) if "--selftest" in sys.argv else check(home)
    print("\n".join(problems) or "include arrows hold")
    sys.exit(1 if problems else 0)
