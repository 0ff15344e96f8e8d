#!/usr/bin/env python3
"""The committed pair as a user meets it: the overlays have their checksums, merge with the base model,
and through a cluster say what they said when they were trained, with and without the draft.

  check.py --bin-dir build/dev/bin [--write]      KRAIT_MODEL names the base; without it: exit code 77
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "reference"))
import cluster  # noqa: E402

EXPECTED = HERE / "expected.json"
TOKENS = 48
LEAST_ACCEPTED = 0.3  # of proposed tokens, greedy


def make_pair(bin_dir, base):
    """(target, draft): folders."""
    script = HERE.parents[1] / "deploy" / "make_pair.sh"
    folder = subprocess.run([script, os.path.join(bin_dir, "krait"), base], check=True, text=True,
                            stdout=subprocess.PIPE).stdout.strip()
    return os.path.join(folder, "SmolLM2-135M-Mamba2-50"), os.path.join(folder, "draft")


def ask(bin_dir, address, prompt, *options):
    """What `krait generate --json` says of a chat prompt, greedy unless the options say otherwise."""
    command = [os.path.join(bin_dir, "krait"), "generate", "--coordinator", address, "--chat", "--prompt",
               prompt, "--json", "--temperature", "0", *options]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def answers(bin_dir, address, prompts):
    """Token ids of each prompt; the same with and without drafts, or it ends here."""
    rows, proposed, accepted = [], 0, 0
    for prompt in prompts:
        plain = ask(bin_dir, address, prompt, "--max-tokens", str(TOKENS), "--max-draft-tokens", "0")
        drafted = ask(bin_dir, address, prompt, "--max-tokens", str(TOKENS))
        if plain["token_ids"] != drafted["token_ids"]:
            sys.exit(f"{prompt!r}: drafts change the tokens")
        proposed += drafted["speculation"]["proposed"]
        accepted += drafted["speculation"]["accepted"]
        rows.append(plain["token_ids"])
    if accepted < LEAST_ACCEPTED * proposed or not proposed:
        sys.exit(f"{accepted} of {proposed} drafts accepted, {LEAST_ACCEPTED} of them wanted")
    print(f"{accepted} of {proposed} drafts accepted")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin-dir", required=True)
    parser.add_argument("--write", action="store_true", help="makes expected.json anew")
    args = parser.parse_args()
    base = os.environ.get("KRAIT_MODEL")
    if not base:
        sys.exit(77)
    target, draft = make_pair(args.bin_dir, base)
    prompts = json.loads((HERE / "prompts.json").read_text())[-4:]
    with cluster.running(args.bin_dir, target, draft, tensor_parallel_size=2,
                         proposal_deadline_ms=2000) as address:
        rows = answers(args.bin_dir, address, prompts)
    if args.write:
        EXPECTED.write_text(json.dumps(rows) + "\n")
    elif rows != json.loads(EXPECTED.read_text()):
        sys.exit("other tokens than in expected.json")


if __name__ == "__main__":
    main()
