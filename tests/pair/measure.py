#!/usr/bin/env python3
"""What the default pair does on this machine, through a cluster: tokens per second with and without
drafts (pairs in turns, medians), acceptance by position, repetition. One JSON document.

  measure.py --bin-dir build/release/bin [--teacher FILE]     KRAIT_MODEL names the base

--teacher FILE adds the base model's perplexity of the hybrid's text and of its own (needs PyTorch)."""
import argparse
import json
import math
import os
import pathlib
import socket
import statistics
import sys
import urllib.request

from check import HERE, ask, cluster, make_pair

ROOT = HERE.parents[1]
TOKENS, POSITIONS = 128, 8
SEED = 1


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def speed(bin_dir, pair, prompts, ranks):
    """Medians over prompts; each is asked with and without drafts, one after the other."""
    rates = []
    with cluster.running(bin_dir, *pair, tensor_parallel_size=ranks, proposal_deadline_ms=200) as address:
        ask(bin_dir, address, prompts[0], "--max-tokens", str(TOKENS))  # both models are in memory
        for prompt in prompts:
            drafted, plain = (ask(bin_dir, address, prompt, "--max-tokens", str(TOKENS), *options)
                              for options in ((), ("--max-draft-tokens", "0")))
            if drafted["token_ids"] != plain["token_ids"]:
                sys.exit(f"{prompt!r}: drafts change the tokens")
            rates.append((drafted["tokens_per_second"], plain["tokens_per_second"]))
    return {"tokens_per_second": statistics.median(r[0] for r in rates),
            "without_drafts": statistics.median(r[1] for r in rates),
            "ratio": statistics.median(a / b for a, b in rates),
            "ratios": [round(a / b, 2) for a, b in rates]}


def accepted_by_position(port):
    """(rounds, [accepted at position 0, 1, ...]) so far."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    values, rounds = [0.0] * POSITIONS, 0.0
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("krait_spec_decode_num_drafts_total"):
            rounds += float(value)
        elif name.startswith("krait_spec_decode_num_accepted_tokens_per_pos_total"):
            position = int(name.split('position="')[1].split('"')[0])
            if position < POSITIONS:
                values[position] += float(value)
    return rounds, values


def acceptance(bin_dir, pair, prompts, temperature):
    """With POSITIONS drafts a round: the share of rounds that accept so far, and the mean length."""
    port, texts = free_port(), []
    with cluster.running(bin_dir, *pair, admin_listen=f"127.0.0.1:{port}", max_draft_tokens=POSITIONS,
                         fixed_draft_tokens=True, proposal_deadline_ms=2000) as address:
        for prompt in prompts:
            texts.append(ask(bin_dir, address, prompt, "--max-tokens", str(TOKENS), "--temperature",
                             str(temperature), "--seed", str(SEED)))
        rounds, accepted = accepted_by_position(port)
    return {"rounds": rounds, "by_position": [round(a / rounds, 3) for a in accepted],
            "mean_accepted": sum(accepted) / rounds}, texts


def repeats(ids):
    """How often the commonest 4-gram occurs beyond once."""
    grams = [tuple(ids[i:i + 4]) for i in range(len(ids) - 3)]
    return max((grams.count(g) for g in set(grams)), default=1) - 1


def own_texts(bin_dir, base, prompts):
    with cluster.running(bin_dir, base) as address:
        return [ask(bin_dir, address, prompt, "--max-tokens", str(TOKENS)) for prompt in prompts]


def perplexity(base, prompts, texts):
    """The base model's, of the replies alone."""
    sys.path.insert(0, str(ROOT))
    import torch
    from distill import checkpoint
    torch.set_num_threads(1)  # two spin for each other on busy cores
    model, total, count = checkpoint.build(*checkpoint.load(pathlib.Path(base))), 0.0, 0
    for prompt, text in zip(prompts, texts):
        ids = torch.tensor([prompt + text["token_ids"]])
        with torch.no_grad():
            logits = model.hidden(ids[:, :-1]) @ model.head_weight.T
        losses = torch.nn.functional.cross_entropy(logits[0].float(), ids[0, 1:], reduction="none")
        total += losses[len(prompt) - 1:].sum().item()
        count += len(text["token_ids"])
    return math.exp(total / count)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin-dir", required=True)
    parser.add_argument("--ranks", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--teacher", metavar="FILE", help="JSON: token ids of each prompt, as rendered")
    parser.add_argument("--only-speed", action="store_true")
    args = parser.parse_args()
    base = os.environ["KRAIT_MODEL"]
    pair = make_pair(args.bin_dir, base)
    prompts = json.loads((HERE / "prompts.json").read_text())
    figures = {f"tp {ranks}": speed(args.bin_dir, pair, prompts, ranks) for ranks in args.ranks}
    print(json.dumps(figures), file=sys.stderr)
    for name, temperature in () if args.only_speed else (("greedy", 0), ("temperature 0.8", 0.8)):
        figures[name], texts = acceptance(args.bin_dir, pair, prompts, temperature)
        figures[name]["repeats_of_a_4_gram"] = [repeats(t["token_ids"]) for t in texts]
        figures[name]["samples"] = [t["text"] for t in texts[:3]]
        if args.teacher:
            ids = json.loads(pathlib.Path(args.teacher).read_text())
            figures[name]["teacher_perplexity"] = perplexity(base, ids, texts)
    if args.teacher:
        own = own_texts(args.bin_dir, base, prompts)
        figures["teacher_perplexity_of_its_own"] = perplexity(base, ids, own)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
