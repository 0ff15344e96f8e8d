"""What mixes tokens in a layer: attention, Mamba1, Mamba2, each grouped like the attention it was
made from. Parameter names and shapes are those of a checkpoint, after "self_attn." or "mamba.".

Every mixer has forward(u, rotary) over whole sequences [batch, time, hidden], new_cache and
step(u, position, cache, rotary) for one token [batch, hidden].
"""

import torch
import torch.nn.functional as F
from torch import nn

from . import scan
from .config import CONV_TAPS, MAMBA1_STATE, dt_rank

GATED_NORM_EPS = 1e-5  # fixed in the released models, whatever rms_norm_eps says


def rms_norm(x, weight, eps):
    scaled = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + eps)
    return (scaled * weight.float()).to(x.dtype)


def softplus(x):
    return F.softplus(x.float())  # the identity above 20


def causal_conv(x, weight, bias):
    """Depthwise, then SiLU: x [batch, time, channels], weight [channels, 1, taps]; the last tap is
    the current token's."""
    taps, time = weight.shape[-1], x.shape[1]
    padded = F.pad(x, [0, 0, taps - 1, 0])
    out = bias.to(x.dtype)
    for j in range(taps):
        out = out + padded[:, j:j + time] * weight[:, 0, j].to(x.dtype)
    return F.silu(out)


def conv_step(history, x, weight, bias):
    """history [batch, taps - 1, channels]: the inputs before x, shifted in place."""
    window = torch.cat([history, x[:, None]], 1)
    history.copy_(window[:, 1:])
    return F.silu((window * weight[:, 0].t().to(x.dtype)).sum(1) + bias.to(x.dtype))


def rotary_tables(config, length, device):
    """cos, sin [length, head_dim / 2], float32."""
    half = config.head_dim // 2
    inverse = config.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half)
    scaling = config.rope_scaling or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "linear":
        inverse = inverse / scaling["factor"]
    elif kind == "llama3":
        original = scaling["original_max_position_embeddings"]
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        turns = original * inverse / (2 * torch.pi)
        smooth = ((turns - low) / (high - low)).clamp(0, 1)
        inverse = inverse * ((1 - smooth) / scaling["factor"] + smooth)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * inverse
    return angles.cos().float().to(device), angles.sin().float().to(device)


def rotate(x, cos, sin):
    """x [..., heads, head_dim]; cos, sin broadcast over heads: half rotation."""
    first, second = x.float().chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)


def attend(q, k, v):
    """Causal; q, k, v [batch, heads, time, head_dim]."""
    if hasattr(F, "scaled_dot_product_attention"):  # PyTorch 2
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    time = q.shape[2]
    mask = torch.ones(time, time, dtype=torch.bool, device=q.device).tril()
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.q_proj = nn.Linear(hidden, config.inner_size, bias=False)
        self.k_proj = nn.Linear(hidden, config.xb_size, bias=False)
        self.v_proj = nn.Linear(hidden, config.xb_size, bias=False)
        self.o_proj = nn.Linear(config.inner_size, hidden, bias=False)

    def _heads(self, u):
        dim = self.config.head_dim
        cut = lambda t: t.reshape(*t.shape[:-1], -1, dim)
        return cut(self.q_proj(u)), cut(self.k_proj(u)), cut(self.v_proj(u))

    def forward(self, u, rotary):
        cos, sin = (t[:u.shape[1], None] for t in rotary)
        q, k, v = self._heads(u)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (t.repeat_interleave(self.config.repeat, 2) for t in (k, v))
        out = attend(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)
        return self.o_proj(out.reshape(*u.shape[:2], -1))

    def new_cache(self, batch, length, like):
        shape = (batch, self.config.num_kv_heads, length, self.config.head_dim)
        return like.new_zeros(shape), like.new_zeros(shape)

    def step(self, u, position, cache, rotary):
        cos, sin = (t[position] for t in rotary)
        q, k, v = self._heads(u)
        keys, values = cache
        keys[:, :, position], values[:, :, position] = rotate(k, cos, sin), v
        keys, values = keys[:, :, :position + 1], values[:, :, :position + 1]
        q = rotate(q, cos, sin).reshape(len(u), self.config.num_kv_heads, self.config.repeat, -1)
        scores = (q @ keys.transpose(-1, -2)).float() * self.config.head_dim ** -0.5
        return self.o_proj((scores.softmax(-1).to(u.dtype) @ values).reshape(len(u), -1))


class Mamba2(nn.Module):
    """in_proj's rows: z | x | B | C | dt. One head of head_dim channels and states a query head."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        inner, xb, heads = config.inner_size, config.xb_size, config.num_heads
        self.sizes = [inner, inner + 2 * xb, heads]
        self.in_proj = nn.Linear(config.hidden_size, sum(self.sizes), bias=False)
        self.conv1d = nn.Conv1d(inner + 2 * xb, inner + 2 * xb, CONV_TAPS, groups=inner + 2 * xb)
        self.dt_bias = nn.Parameter(torch.zeros(heads))
        self.A_log = nn.Parameter(torch.zeros(heads))
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = nn.Module()
        self.norm.weight = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, config.hidden_size, bias=False)

    def _heads(self, xbc, dt):
        config = self.config
        x, b, c = (t.reshape(*t.shape[:-1], -1, config.head_dim) for t in xbc.split(
            [config.xb_size, config.xb_size, config.inner_size], -1))
        x, b = (t.repeat_interleave(config.repeat, -2) for t in (x, b))
        return x, softplus(dt.float() + self.dt_bias.float()), -self.A_log.float().exp(), b, c

    def _output(self, y, x, z):
        y = y.float() + self.D.float()[:, None] * x.float()
        gated = y * F.silu(z.float()).reshape(y.shape)
        weight = self.norm.weight.reshape(y.shape[-2:])
        return self.out_proj(rms_norm(gated, weight, GATED_NORM_EPS).reshape(z.shape).to(z.dtype))

    def forward(self, u, rotary):
        z, xbc, dt = self.in_proj(u).split(self.sizes, -1)
        x, dt, a, b, c = self._heads(causal_conv(xbc, self.conv1d.weight, self.conv1d.bias), dt)
        return self._output(scan.mamba2_chunked(x, dt, a, b, c), x, z)

    def new_cache(self, batch, length, like):
        width, heads = self.config.head_dim, self.config.num_heads
        return (like.new_zeros(batch, CONV_TAPS - 1, self.sizes[1]),
                like.new_zeros(batch, heads, width, width, dtype=torch.float32))

    def step(self, u, position, cache, rotary):
        z, xbc, dt = self.in_proj(u).split(self.sizes, -1)
        xbc = conv_step(cache[0], xbc, self.conv1d.weight, self.conv1d.bias)
        x, dt, a, b, c = self._heads(xbc, dt)
        return self._output(scan.mamba2_step(cache[1], x, dt, a, b, c), x, z)


class Mamba1(nn.Module):
    """Groups of 16 channels share B and C of 16 states; x is widened before the convolution."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        hidden, inner, xb = config.hidden_size, config.inner_size, config.xb_size
        rank = dt_rank(config)
        self.in_proj_z = nn.Linear(hidden, inner, bias=False)
        self.in_proj_x = nn.Linear(hidden, xb, bias=False)
        self.B_proj = nn.Linear(hidden, xb, bias=False)
        self.C_proj = nn.Linear(hidden, inner, bias=False)
        self.dt_proj_down = nn.Linear(hidden, rank, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.conv1d = nn.Conv1d(inner, inner, CONV_TAPS, groups=inner)
        self.A_log = nn.Parameter(torch.zeros(inner, MAMBA1_STATE))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, hidden, bias=False)

    def _groups(self, t):
        return t.reshape(*t.shape[:-1], -1, MAMBA1_STATE)

    def _inputs(self, u):
        """Widened x before the convolution, dt, a, widened B, C."""
        repeat = self.config.repeat
        x = self._groups(self.in_proj_x(u)).repeat_interleave(repeat, -2).flatten(-2)
        b = self._groups(self.B_proj(u)).repeat_interleave(repeat, -2)
        # The released models add the bias twice: once in the projection, once in their scan.
        dt = softplus(self.dt_proj(self.dt_proj_down(u)).float() + self.dt_proj.bias.float())
        return x, dt, -self.A_log.float().exp(), b, self._groups(self.C_proj(u))

    def _output(self, y, x, u):
        y = y.float() + self.D.float() * x.float()
        return self.out_proj((y * F.silu(self.in_proj_z(u).float())).to(u.dtype))

    def forward(self, u, rotary):
        x, dt, a, b, c = self._inputs(u)
        x = causal_conv(x, self.conv1d.weight, self.conv1d.bias)
        return self._output(scan.mamba1_chunked(x, dt, a, b, c), x, u)

    def new_cache(self, batch, length, like):
        inner = self.config.inner_size
        return (like.new_zeros(batch, CONV_TAPS - 1, inner),
                like.new_zeros(batch, inner, MAMBA1_STATE, dtype=torch.float32))

    def step(self, u, position, cache, rotary):
        x, dt, a, b, c = self._inputs(u)
        x = conv_step(cache[0], x, self.conv1d.weight, self.conv1d.bias)
        return self._output(scan.mamba1_step(cache[1], x, dt, a, b, c), x, u)
