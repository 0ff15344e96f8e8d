"""distill evaluate: held-out perplexity, KL and top-1 agreement with the teacher, and of a draft the
expected number of accepted tokens for K = 1..8."""

import json
import math

import torch

from . import checkpoint
from .batches import Batches
from .train import device_of, precision, prepare

MAX_DRAFT_TOKENS = 8


@torch.no_grad()
def compare(model, teacher, batches, windows, length, batch, device):
    """Means over `windows` windows: perplexity of both, KL(teacher || model), top-1 agreement."""
    sums, tokens = torch.zeros(4, dtype=torch.float64), 0
    for step in range(max(1, windows // batch)):
        ids, targets = batches.get(0, step, batch, length)
        for row in range(batch):  # the logits of one row at a time
            with precision(device):
                own = model(ids[row:row + 1])[0].log_softmax(-1)
                wanted = teacher(ids[row:row + 1])[0].log_softmax(-1)
            target = targets[row][:, None]
            figures = (-own.gather(1, target).sum(), -wanted.gather(1, target).sum(),
                       (wanted.exp() * (wanted - own)).sum(),
                       (own.argmax(-1) == wanted.argmax(-1)).sum())
            sums += torch.stack([f.double() for f in figures]).cpu()
            tokens += length
    own, wanted, kl, agree = (sums / tokens).tolist()
    return {"perplexity": math.exp(own), "teacher_perplexity": math.exp(wanted), "kl": kl,
            "top1_agreement": agree, "tokens": tokens}


def accepted_lengths(equal, valid):
    """equal, valid [batch, time] bool: the draft's token is the target's -> for K = 1..8 the mean
    number of accepted tokens of a round that starts at each valid position."""
    run, means = torch.ones_like(equal), []
    total = torch.zeros(equal.shape, dtype=torch.float64)
    for k in range(MAX_DRAFT_TOKENS):
        ahead = torch.zeros_like(equal)
        ahead[:, :max(0, equal.shape[1] - k)] = (equal & valid)[:, k:]
        run = run & ahead
        total = total + run.double()
        means.append((total[valid].mean()).item())
    return means


@torch.no_grad()
def acceptance(draft, target, token_map, ids, valid, temperature, seed, device):
    """Over texts ids [batch, time] of the target's own: at every valid position both draw the next
    token with the same noise (the served rule). Acceptance, and accepted tokens for K = 1..8."""
    equal = torch.zeros(ids.shape, dtype=torch.bool)
    generator = torch.Generator(device).manual_seed(seed)
    for row in range(len(ids)):
        with precision(device):
            wanted, own = target(ids[row:row + 1])[0], draft(ids[row:row + 1])[0]
        noise = torch.zeros((), device=device)
        if temperature > 0:
            uniform = torch.rand(wanted.shape, generator=generator, device=device)
            noise = -temperature * torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        own_noise = noise if token_map is None or noise.dim() == 0 else noise[:, token_map]
        drawn = (own + own_noise).argmax(-1)
        drawn = drawn if token_map is None else token_map[drawn]
        equal[row] = (drawn == (wanted + noise).argmax(-1)).cpu()
    return {"temperature": temperature, "acceptance": equal[valid].double().mean().item(),
            "accepted_tokens": accepted_lengths(equal, valid)}


def add_arguments(parser):
    parser.add_argument("--model", required=True, metavar="PATH", help="a hybrid, or a draft")
    parser.add_argument("--teacher", required=True, metavar="PATH", help="or the draft's target")
    parser.add_argument("--data", required=True, metavar="NAME", help="held-out packed tokens")
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--temperature", type=float, default=0.0, help="of a draft's acceptance")


def run(args):
    device = device_of()
    config, tensors = checkpoint.load(args.model)
    token_map = tensors.get(checkpoint.TOKEN_MAP)
    model = prepare(checkpoint.build(config, tensors), [], device)
    teacher = prepare(checkpoint.build(*checkpoint.load(args.teacher)), [], device)
    batches = Batches([args.data], config.vocab_size, device)
    if token_map is None:
        figures = compare(model, teacher, batches, args.windows, args.length, 1, device)
    else:
        ids, _ = batches.get(0, 0, args.windows, args.length)
        figures = acceptance(model, teacher, token_map.to(device), ids,
                             torch.ones(ids.shape, dtype=torch.bool), args.temperature, 0, device)
    print(json.dumps(figures, indent=2))
    return 0
