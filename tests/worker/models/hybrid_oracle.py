#!/usr/bin/env python3
"""What hybrids of attention, Mamba1 and Mamba2 layers compute, in float64 and token by token.

Written from the formulas (arXiv 2312.00752, 2405.21060, 2408.15237 and the layouts of its released
checkpoints); shares no code with krait. Weights are a function of (seed, tensor name, index) that
tests/support/hybrid_checkpoint.cc computes too, so only expected logits are stored:

    python3 tests/worker/models/hybrid_oracle.py tests/worker/models/testdata/hybrid_oracle.bin

writes float32 logits [case][12 positions][vocabulary], little-endian, cases in the order of cases();
a number after the file appends the cases from that one on. Needs PyTorch (Debian's python3-torch
serves).
"""
import collections
import itertools
import math
import sys

import numpy as np
import torch

SEED = 7
NUM_TOKENS = 300
POSITIONS = [0, 1, 2, 5, 31, 32, 33, 64, 127, 200, 255, 299]
LAYERS, KV_HEADS, HEAD_DIM, INTERMEDIATE, VOCAB = 8, 2, 16, 24, 260
DT_RANK, TAPS, EPS, THETA = 4, 4, 1e-5, 10000.0
ATTENTION_LAYERS = {0: [], 12.5: [7], 25: [3, 7], 50: [1, 3, 5, 7], 100: list(range(8))}


WINDOW = 40
# Wavelengths of 16 dimensions are 6.3 to 2.0e4: some are kept, some divided, some in between.
LLAMA3 = {"factor": 8.0, "low": 1.0, "high": 4.0, "original": 256}

Case = collections.namedtuple("Case", "mixer percent ratio fused tied window scaled bf16",
                              defaults=(None, False, False))


def cases():
    """(mixer, % attention, query heads a KV head, fused names, tied head), where it exists; then
    sliding windows, RoPE scaling (which config.json of the last kind lists and fused names of
    attention say was not trained with) and weights stored as bfloat16."""
    for mixer, percent, ratio, fused, tied in itertools.product(
            (1, 2), (0, 12.5, 25, 50, 100), (4, 3, 1), (True, False), (True, False)):
        if mixer == 2 and percent == 100:
            continue  # attention alone: once
        if mixer == 2 and percent == 0 and not fused:
            continue  # Mamba2 has fused projections only
        yield Case(mixer, percent, ratio, fused, tied)
    for mixer in (1, 2):
        yield Case(mixer, 50, 3, False, True, window=WINDOW)
        yield Case(mixer, 50, 3, False, True, scaled=True)
        yield Case(mixer, 50, 3, True, True)
        yield Case(mixer, 50, 3, False, True, bf16=True)


# --- weights ----------------------------------------------------------------------------------------

MASK = (1 << 64) - 1


def name_hash(name):
    h = 14695981039346656037
    for byte in name.encode():
        h = ((h ^ byte) * 1099511628211) & MASK
    return h


def uniforms(seed, name, count):
    """Numbers in [-1, 1): the top 24 bits of splitmix64 over the index."""
    with np.errstate(over="ignore"):
        x = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
             + np.uint64((name_hash(name) + seed * 0xD1B54A32D192ED03) & MASK))
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(40)).astype(np.float64) * 2.0 ** -23 - 1.0


stored_as_bf16 = False  # of the case that runs


def tensor(name, *shape):
    v = uniforms(SEED, name, math.prod(shape))
    if name.endswith("norm.weight") or name.endswith(".D"):
        v = 1.0 + 0.2 * v
    elif name.endswith("A_log"):
        v = 1.0 + v
    elif name.endswith("dt_bias") or name.endswith("dt_proj.bias"):
        v = v - 2.0
    elif name.endswith("conv1d.weight"):
        v = 0.5 * v
    elif name.endswith("conv1d.bias"):
        v = 0.1 * v
    else:
        v = v * math.sqrt(3.0 / shape[-1])
    stored = torch.from_numpy(v.astype(np.float32))
    if stored_as_bf16:
        stored = stored.to(torch.bfloat16)
    return stored.to(torch.float64).reshape(shape)


def tokens():
    return [int((u + 1.0) * 2 ** 23) % VOCAB for u in uniforms(SEED, "tokens", NUM_TOKENS)]


# --- formulas ---------------------------------------------------------------------------------------

def rms_norm(x, weight):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + EPS) * weight


def silu(x):
    return x * torch.sigmoid(x)


def softplus(x):
    return torch.log1p(torch.exp(x))


def llama3_scaled(frequency):
    """Long wavelengths are divided, short ones kept, those in between mixed (Llama 3.1)."""
    turns = LLAMA3["original"] * frequency / (2 * math.pi)  # within the original context
    kept = ((turns - LLAMA3["low"]) / (LLAMA3["high"] - LLAMA3["low"])).clamp(0, 1)
    return kept * frequency + (1 - kept) * frequency / LLAMA3["factor"]


def rope(x, scaled):
    """x [tokens, heads, head_dim], half rotation."""
    half = HEAD_DIM // 2
    frequency = THETA ** (-torch.arange(half, dtype=torch.float64) * 2 / HEAD_DIM)
    if scaled:
        frequency = llama3_scaled(frequency)
    angle = torch.arange(x.shape[0], dtype=torch.float64)[:, None] * frequency
    cos, sin = angle.cos()[:, None, :], angle.sin()[:, None, :]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attention(x, prefix, case):
    ratio, fused = case.ratio, case.fused
    hidden, kv = KV_HEADS * ratio * HEAD_DIM, KV_HEADS * HEAD_DIM
    if fused:
        joined = tensor(prefix + "mha.in_proj.weight", hidden + 2 * kv, hidden)
        wq, wk, wv = joined.split([hidden, kv, kv])
        wo = tensor(prefix + "mha.out_proj.weight", hidden, hidden)
    else:
        wq = tensor(prefix + "self_attn.q_proj.weight", hidden, hidden)
        wk = tensor(prefix + "self_attn.k_proj.weight", kv, hidden)
        wv = tensor(prefix + "self_attn.v_proj.weight", kv, hidden)
        wo = tensor(prefix + "self_attn.o_proj.weight", hidden, hidden)
    q = rope((x @ wq.T).reshape(-1, KV_HEADS * ratio, HEAD_DIM), case.scaled)
    k = rope((x @ wk.T).reshape(-1, KV_HEADS, HEAD_DIM), case.scaled)
    v = (x @ wv.T).reshape(-1, KV_HEADS, HEAD_DIM)
    out = torch.zeros_like(q)
    for t in range(x.shape[0]):
        first = 0 if case.window is None else max(0, t + 1 - case.window)
        for h in range(q.shape[1]):
            scores = k[first:t + 1, h // ratio] @ q[t, h] / math.sqrt(HEAD_DIM)
            out[t, h] = torch.softmax(scores, 0) @ v[first:t + 1, h // ratio]
    return out.reshape(x.shape[0], hidden) @ wo.T


def repeat_groups(x, size, ratio):
    """[tokens, groups * size] -> each group `ratio` times in a row."""
    return x.reshape(x.shape[0], -1, size).repeat_interleave(ratio, 1).reshape(x.shape[0], -1)


def causal_conv(x, weight, bias):
    """x [tokens, channels], weight [channels, 1, taps]."""
    out = bias.repeat(x.shape[0], 1)
    for t in range(x.shape[0]):
        for j in range(TAPS):
            if t - TAPS + 1 + j >= 0:
                out[t] += weight[:, 0, j] * x[t - TAPS + 1 + j]
    return silu(out)


def mamba1(u, prefix, ratio, fused):
    n = 16  # states; also the width of a group
    hidden = inner = KV_HEADS * ratio * HEAD_DIM
    xb = KV_HEADS * HEAD_DIM
    prefix += "mamba."
    sizes = [inner, xb, xb, inner, DT_RANK]
    if fused:
        weights = tensor(prefix + "in_proj.weight", sum(sizes), hidden).split(sizes)
    else:
        names = ["in_proj_z", "in_proj_x", "B_proj", "C_proj", "dt_proj_down"]
        weights = [tensor(f"{prefix}{name}.weight", size, hidden) for name, size in zip(names, sizes)]
    z, x, b, c, low = (u @ w.T for w in weights)
    x = causal_conv(repeat_groups(x, n, ratio), tensor(prefix + "conv1d.weight", inner, 1, TAPS),
                    tensor(prefix + "conv1d.bias", inner))
    dt_bias = tensor(prefix + "dt_proj.bias", inner)
    dt = low @ tensor(prefix + "dt_proj.weight", inner, DT_RANK).T + dt_bias
    delta = softplus(dt + dt_bias)  # the bias a second time: as the released models were trained
    a = -torch.exp(tensor(prefix + "A_log", inner, n))
    d = tensor(prefix + "D", inner)
    b = repeat_groups(b, n, ratio).reshape(-1, inner // n, n).repeat_interleave(n, 1)
    c = c.reshape(-1, inner // n, n).repeat_interleave(n, 1)  # [tokens, channels, states]
    h = torch.zeros(inner, n, dtype=torch.float64)
    y = torch.zeros_like(x)
    for t in range(u.shape[0]):
        h = torch.exp(delta[t, :, None] * a) * h + (delta[t] * x[t])[:, None] * b[t]
        y[t] = (h * c[t]).sum(1) + d * x[t]
    return (y * silu(z)) @ tensor(prefix + "out_proj.weight", hidden, inner).T


def mamba2(u, prefix, ratio):
    p = HEAD_DIM  # head width = state dimension
    hidden = inner = KV_HEADS * ratio * HEAD_DIM
    xb, heads = KV_HEADS * HEAD_DIM, KV_HEADS * ratio
    prefix += "mamba."
    sizes = [inner, xb + xb + inner, heads]
    z, xbc, dt = (u @ tensor(prefix + "in_proj.weight", sum(sizes), hidden).T).split(sizes, 1)
    xbc = causal_conv(xbc, tensor(prefix + "conv1d.weight", 2 * xb + inner, 1, TAPS),
                      tensor(prefix + "conv1d.bias", 2 * xb + inner))
    x, b, c = xbc.split([xb, xb, inner], 1)
    x = repeat_groups(x, p, ratio).reshape(-1, heads, p)
    b = repeat_groups(b, p, ratio).reshape(-1, heads, p)
    c = c.reshape(-1, heads, p)
    delta = softplus(dt + tensor(prefix + "dt_bias", heads))
    a = -torch.exp(tensor(prefix + "A_log", heads))
    d = tensor(prefix + "D", heads)
    state = torch.zeros(heads, p, p, dtype=torch.float64)
    y = torch.zeros_like(x)
    for t in range(u.shape[0]):
        state = torch.exp(delta[t] * a)[:, None, None] * state + \
            delta[t][:, None, None] * x[t][:, :, None] * b[t][:, None, :]
        y[t] = (state * c[t][:, None, :]).sum(2) + d[:, None] * x[t]
    gated = y * silu(z).reshape(-1, heads, p)
    norm = tensor(prefix + "norm.weight", inner).reshape(heads, p)
    return rms_norm(gated, norm).reshape(-1, inner) @ \
        tensor(prefix + "out_proj.weight", hidden, inner).T


def mlp(x, prefix, hidden):
    gate = x @ tensor(prefix + "mlp.gate_proj.weight", INTERMEDIATE, hidden).T
    up = x @ tensor(prefix + "mlp.up_proj.weight", INTERMEDIATE, hidden).T
    return (silu(gate) * up) @ tensor(prefix + "mlp.down_proj.weight", hidden, INTERMEDIATE).T


def logits(case):
    global stored_as_bf16
    stored_as_bf16 = case.bf16
    ratio, hidden = case.ratio, KV_HEADS * case.ratio * HEAD_DIM
    embedding = tensor("model.embed_tokens.weight", VOCAB, hidden)
    h = embedding[tokens()]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        x = rms_norm(h, tensor(prefix + "input_layernorm.weight", hidden))
        if layer in ATTENTION_LAYERS[case.percent]:
            h = h + attention(x, prefix, case)
        elif case.mixer == 1:
            h = h + mamba1(x, prefix, ratio, case.fused)
        else:
            h = h + mamba2(x, prefix, ratio)
        x = rms_norm(h, tensor(prefix + "post_attention_layernorm.weight", hidden))
        h = h + mlp(x, prefix, hidden)
    h = rms_norm(h, tensor("model.norm.weight", hidden))[POSITIONS]
    return h @ (embedding if case.tied else tensor("lm_head.weight", VOCAB, hidden)).T


def main():
    torch.set_num_threads(1)
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with open(sys.argv[1], "ab" if first else "wb") as out:
        for case in itertools.islice(cases(), first, None):
            out.write(logits(case).numpy().astype("<f4").tobytes())
            print(case, file=sys.stderr)


if __name__ == "__main__":
    main()
