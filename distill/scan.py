"""The recurrences of Mamba1 and Mamba2 over whole sequences, in chunks that run side by side.

Each has its token-by-token form here too: what a decoder runs, and what the tests compare with.
dt is the effective step (after bias and softplus); decays are products of exp(dt A) <= 1, so
nothing overflows. Sums of decays are float32 whatever the model computes in.
"""

import torch
import torch.nn.functional as F


def _pad_time(tensor, multiple):
    """Zeros after the last token up to a multiple: a step of 0 changes no state."""
    missing = -tensor.shape[1] % multiple
    return F.pad(tensor, [0, 0] * (tensor.dim() - 2) + [0, missing]) if missing else tensor


def _decay(log_a):
    """log_a [..., Q] -> [..., Q, Q]: exp of the sum over u+1..t, 0 above the diagonal."""
    total = torch.cumsum(log_a, -1)
    difference = total[..., :, None] - total[..., None, :]
    mask = torch.ones(log_a.shape[-1], log_a.shape[-1], dtype=torch.bool, device=log_a.device)
    return difference.masked_fill(~mask.tril(), float("-inf")).exp()


def mamba2_chunked(x, dt, a, b, c, chunk=128):
    """x, b, c [batch, time, heads, width], dt [batch, time, heads] float32, a [heads] < 0 -> y."""
    batch, time, heads, width = x.shape
    x, dt, b, c = (_pad_time(t, chunk) for t in (x * dt[..., None].to(x.dtype), dt, b, c))
    shape = (batch, x.shape[1] // chunk, chunk, heads)
    x, b, c = (t.reshape(*shape, t.shape[-1]) for t in (x, b, c))
    log_a = (dt * a).reshape(shape).permute(0, 3, 1, 2)  # [batch, heads, chunks, Q]
    total = torch.cumsum(log_a, -1)
    scores = torch.einsum("zcqhn,zckhn->zhcqk", c, b) * _decay(log_a).to(x.dtype)
    y = torch.einsum("zhcqk,zckhp->zcqhp", scores, x)
    to_end = (total[..., -1:] - total).exp().permute(0, 2, 3, 1).to(x.dtype)
    added = torch.einsum("zcqhn,zcqhp->zchpn", b * to_end[..., None], x).float()
    kept = total[..., -1].exp().permute(0, 2, 1)[..., None, None]  # [batch, chunks, heads, 1, 1]
    state, before = torch.zeros_like(added[:, 0]), []
    for i in range(shape[1]):
        before.append(state)
        state = state * kept[:, i] + added[:, i]
    before = torch.stack(before, 1).to(x.dtype)
    from_start = total.exp().permute(0, 2, 3, 1).to(x.dtype)
    y = y + torch.einsum("zcqhn,zchpn->zcqhp", c * from_start[..., None], before)
    return y.reshape(batch, -1, heads, width)[:, :time]


def mamba2_step(state, x, dt, a, b, c):
    """One token: x, b, c [batch, heads, width], dt [batch, heads], state [batch, heads, P, N]
    float32, changed in place -> y [batch, heads, P]."""
    update = (dt[..., None] * x.float())[..., None] * b.float()[..., None, :]
    state.mul_((dt * a).exp()[..., None, None]).add_(update)
    return (state * c.float()[..., None, :]).sum(-1)


def mamba1_chunked(x, dt, a, b, c, chunk=32):
    """x, dt [batch, time, channels], a [channels, states] < 0, b, c [batch, time, groups, states],
    channels in groups of equal size -> y. The decay differs by channel and state, so there is no
    matrix form: all chunks walk their tokens together, then hand their states on."""
    batch, time, channels = x.shape
    x, dt, b, c = (_pad_time(t, chunk) for t in (x, dt, b, c))
    chunks, per_group = x.shape[1] // chunk, channels // b.shape[2]
    cut = lambda t: t.reshape(batch, chunks, chunk, *t.shape[2:]).float()
    x, dt, b, c = cut(x), cut(dt), cut(b), cut(c)
    spread = lambda t: t.repeat_interleave(per_group, 2)  # [batch, chunks, groups -> channels, N]
    local = x.new_zeros(batch, chunks, channels, a.shape[1])
    passed, y, decays = torch.zeros_like(dt[:, :, 0]), [], []
    for t in range(chunk):
        local = (dt[:, :, t, :, None] * a).exp() * local \
            + (dt[:, :, t] * x[:, :, t])[..., None] * spread(b[:, :, t])
        y.append((local * spread(c[:, :, t])).sum(-1))
        passed = passed + dt[:, :, t]
        decays.append(passed)
    state, before = torch.zeros_like(local[:, 0]), []
    for i in range(chunks):
        before.append(state)
        state = (passed[:, i, :, None] * a).exp() * state + local[:, i]
    before = torch.stack(before, 1)
    for t in range(chunk):
        carried = (decays[t][..., None] * a).exp() * before
        y[t] = y[t] + (carried * spread(c[:, :, t])).sum(-1)
    return torch.stack(y, 2).reshape(batch, -1, channels)[:, :time]


def mamba1_step(state, x, dt, a, b, c):
    """One token: x, dt [batch, channels], b, c [batch, groups, states], state [batch, channels,
    states] float32, changed in place -> y [batch, channels]."""
    per_group = x.shape[1] // b.shape[1]
    spread = lambda t: t.float().repeat_interleave(per_group, 1)
    state.mul_((dt[..., None] * a).exp()).add_((dt * x.float())[..., None] * spread(b))
    return (state * spread(c)).sum(-1)
