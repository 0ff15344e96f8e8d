"""distill generate: a model's replies to prompts, as training text (pseudo-labels) or, with a second
model, as preferences for DPO.

Prompts and replies are packed token files. All prompts advance together, one position a step:
inside its prompt a row is fed the prompt, after it what it drew."""

import json
import pathlib
import sys

import numpy as np
import torch

from . import checkpoint, token_file
from .train import device_of, precision, prepare


def split_documents(ids, separator):
    """Packed ids -> a list of lists, without separators."""
    ends = np.flatnonzero(ids == separator)
    parts = np.split(ids, ends + 1)
    return [part[part != separator].tolist() for part in parts if (part != separator).any()]


@torch.no_grad()
def replies(model, prompts, max_tokens, temperature, seed, eos, device):
    """[(prompt, reply)] in the order of `prompts`; a reply ends with `eos` unless it was cut.
    temperature 0 is greedy."""
    longest = max(map(len, prompts))
    fed = torch.full((len(prompts), longest), eos)
    for row, prompt in enumerate(prompts):
        fed[row, :len(prompt)] = torch.tensor(prompt)
    fed, lengths = fed.to(device), torch.tensor([len(p) for p in prompts], device=device)
    generator = torch.Generator(device).manual_seed(seed)
    total = longest + max_tokens
    cache, drawn, ended = model.new_cache(len(prompts), total), [], lengths < 0
    ids = fed[:, 0]
    for position in range(total - 1):
        with precision(device):
            logits = model.step(ids, position, cache)
        if temperature > 0:
            noise = torch.rand(logits.shape, generator=generator, device=device)
            logits = logits / temperature - torch.log(-torch.log(noise.clamp(1e-20, 1 - 1e-7)))
        ids = logits.argmax(-1)
        if position + 1 < longest:
            ids = torch.where(position + 1 < lengths, fed[:, min(position + 1, longest - 1)], ids)
        drawn.append(ids)
        ended |= (ids == eos) & (position + 1 >= lengths)
        if position % 32 == 31 and bool(ended.all()):
            break
    out = torch.stack(drawn, 1).tolist()
    result = []
    for prompt, row in zip(prompts, out):
        reply = row[len(prompt) - 1:][:max_tokens]
        if eos in reply:
            reply = reply[:reply.index(eos) + 1]
        result.append((prompt, reply))
    return result


def in_batches(model, prompts, batch, device, **options):
    """replies() of many prompts: alike in length together."""
    order, done = sorted(range(len(prompts)), key=lambda i: len(prompts[i])), {}
    for start in range(0, len(order), batch):
        numbers = order[start:start + batch]
        options["seed"] += 1
        for number, pair in zip(numbers, replies(model, [prompts[i] for i in numbers],
                                                 device=device, **options)):
            done[number] = pair
        print(f"generate: {min(start + batch, len(order))} of {len(order)} prompts",
              file=sys.stderr, flush=True)
    return [done[i] for i in range(len(prompts))]


def pack(pairs, separator):
    """Documents of prompt and reply, packed."""
    return np.array([i for prompt, reply in pairs for i in (*prompt, *reply, separator)], np.uint16)


def end_token(config):
    """The id that ends a reply; the first one of several."""
    eos = config.extra.get("eos_token_id", 2)
    return eos[0] if isinstance(eos, list) else eos


def write_preferences(path, chosen, rejected):
    """Both [(prompt, reply)] of the same prompts; pairs of the same reply are left out."""
    lines = [json.dumps({"prompt": prompt, "chosen": good, "rejected": bad})
             for (prompt, good), (_, bad) in zip(chosen, rejected) if good != bad]
    pathlib.Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def perturb(model, noise, seed):
    """Gaussian noise on every matrix, `noise` times its own deviation: a worse twin."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                drawn = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.add_(drawn * parameter.std() * noise)
    return model


def add_arguments(parser):
    parser.add_argument("--model", required=True, metavar="PATH")
    parser.add_argument("--prompts", required=True, metavar="NAME", help="a packed token file")
    parser.add_argument("--out", required=True, metavar="NAME",
                        help="the packed file; with --rejected-by, the file of preferences")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--separator", type=int, default=0)
    parser.add_argument("--rejected-by", metavar="PATH",
                        help="whose replies, made worse by --noise, are the rejected ones")
    parser.add_argument("--noise", type=float, default=0.1)


def run(args):
    device = device_of()
    config, tensors = checkpoint.load(args.model)
    prompts = split_documents(token_file.read(args.prompts, config.vocab_size), args.separator)
    options = dict(batch=args.batch, device=device, max_tokens=args.max_tokens,
                   temperature=args.temperature, seed=args.seed,
                   eos=end_token(config))
    pairs = in_batches(prepare(checkpoint.build(config, tensors), [], device), prompts, **options)
    if not args.rejected_by:
        token_file.write(args.out, pack(pairs, args.separator), config.vocab_size, args.separator)
        return 0
    worse = perturb(checkpoint.build(*checkpoint.load(args.rejected_by)), args.noise, args.seed)
    rejected = in_batches(prepare(worse, [], device), prompts, **options)
    write_preferences(args.out, pairs, rejected)
    return 0
