#!/usr/bin/env python3
"""Compares krait's greedy tokens and logprobs with a file of make_reference.py.

  compare.py REFERENCE.json --bin-dir DIR --model MODEL [--tp N]   starts a cluster of its own
  compare.py REFERENCE.json --bin-dir DIR --coordinator HOST:PORT  asks a running one

Where the two part, the reference's gap between its best token and krait's is listed; the comparison then
goes on behind the reference's own token, so that every position is compared. Passes only if every
gap and every difference of a logprob is below the tolerance (1e-3). Exit codes: 0 passed, 1 failed,
77 no model ($KRAIT_MODEL is empty and neither --model nor --coordinator is given)."""
import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys

import cluster


@dataclasses.dataclass
class Tally:
    compared: int = 0
    partings: list = dataclasses.field(default_factory=list)  # (prompt, position, ref, krait, gap)
    worst_logprob: float = 0.0
    logprobs: int = 0


class Krait:
    def __init__(self, bin_dir, address):
        self.command = [os.path.join(bin_dir, "krait"), "generate", "--coordinator", address, "--json",
                        "--temperature", "0", "--ignore-eos", "--logprobs", "2"]

    def generate(self, prompt_ids, max_tokens):
        """[(token id, {token id: logprob})], one a position."""
        done = subprocess.run(self.command + ["--prompt-token-ids", ",".join(map(str, prompt_ids)),
                                              "--max-tokens", str(max_tokens)],
                              stdout=subprocess.PIPE, check=True)
        answer = json.loads(done.stdout)
        assert len(answer["token_ids"]) == len(answer["logprobs"]) == max_tokens, answer["finish_reason"]
        return [(token, {entry["token_id"]: entry["logprob"] for entry in [drawn["token"]] + drawn["top"]})
                for token, drawn in zip(answer["token_ids"], answer["logprobs"])]


def gap(step, token):
    """How far below the reference's best logit its logit of `token` is."""
    return next((step[0][1] - logit for id_, logit, _ in step if id_ == token), float("inf"))


def compare_logprobs(step, logprobs, tally):
    for token, _, logprob in step:
        if token in logprobs:
            tally.logprobs += 1
            tally.worst_logprob = max(tally.worst_logprob, abs(logprob - logprobs[token]))


def compare_prompt(krait, prompt, tally):
    steps, position = prompt["steps"], 0
    reference = [step[0][0] for step in steps]
    while position < len(steps):
        for token, logprobs in krait.generate(prompt["prompt_ids"] + reference[:position],
                                              len(steps) - position):
            step, position = steps[position], position + 1
            tally.compared += 1
            compare_logprobs(step, logprobs, tally)
            if token != step[0][0]:
                tally.partings.append((prompt["name"], position - 1, step[0][0], token, gap(step, token)))
                break


def report(tally, tolerance):
    for name, position, expected, actual, distance in tally.partings:
        print(f"parted: {name} at {position}: reference {expected}, krait {actual}, logit gap {distance:.2e}")
    print(f"{tally.compared} tokens compared, {len(tally.partings)} partings; "
          f"{tally.logprobs} logprobs, largest difference {tally.worst_logprob:.2e}")
    return (tally.compared > 0 and tally.logprobs > 0 and tally.worst_logprob < tolerance and
            all(parting[-1] < tolerance for parting in tally.partings))


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("--bin-dir", required=True)
    parser.add_argument("--model", default=os.environ.get("KRAIT_MODEL"))
    parser.add_argument("--coordinator")
    parser.add_argument("--tp", type=int, default=2)
    parser.add_argument("--only", default="", help="names of prompts, with commas")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    return parser.parse_args(arguments)


def address_of(args, weights):
    if args.coordinator:
        return contextlib.nullcontext(args.coordinator)
    return cluster.running(args.bin_dir, args.model, weight_dtype=weights.upper(),
                           tensor_parallel_size=args.tp)


def main():
    args = parse(sys.argv[1:])
    if not args.model and not args.coordinator:
        print("KRAIT_MODEL is not set: nothing to compare")
        return 77
    with open(args.reference) as file:
        document = json.load(file)
    wanted, tally = set(filter(None, args.only.split(","))), Tally()
    with address_of(args, document["weights"]) as address:
        krait = Krait(args.bin_dir, address)
        for prompt in document["prompts"]:
            if not wanted or prompt["name"] in wanted:
                compare_prompt(krait, prompt, tally)
                print(prompt["name"], len(prompt["prompt_ids"]), "tokens: compared", file=sys.stderr, flush=True)
    return 0 if report(tally, args.tolerance) else 1


if __name__ == "__main__":
    sys.exit(main())
