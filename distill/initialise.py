"""A Mamba mixer from the attention it replaces: x from V, B from K, C from Q, out from O (arXiv
2408.15237). What attention does not have (z, dt, A, D, convolution, norm) is drawn."""

import math

import torch

from .config import MAMBA2
from .model import MIXERS

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 1e-1, 1e-4


def _step_bias(count, generator):
    """The inverse softplus of steps drawn log-uniformly from [DT_MIN, DT_MAX]."""
    u = torch.rand(count, generator=generator)
    steps = torch.exp(u * math.log(DT_MAX / DT_MIN) + math.log(DT_MIN)).clamp(min=DT_FLOOR)
    return steps + torch.log(-torch.expm1(-steps))


def _uniform(shape, bound, generator):
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound


def _draw(mixer, kind, generator):
    """PyTorch's own defaults for layers, the mixers' for the rest, all from one generator."""
    with torch.no_grad():
        for name, parameter in mixer.named_parameters():
            if parameter.dim() >= 2 and name != "A_log":
                fan_in = parameter[0].numel()
                parameter.copy_(_uniform(parameter.shape, fan_in ** -0.5, generator))
        mixer.conv1d.bias.copy_(_uniform(mixer.conv1d.bias.shape, mixer.conv1d.weight.shape[-1]
                                         ** -0.5, generator))
        if kind == MAMBA2:
            mixer.dt_bias.copy_(_step_bias(len(mixer.dt_bias), generator))
            mixer.A_log.copy_(torch.log(1 + 15 * torch.rand(len(mixer.A_log), generator=generator)))
        else:
            mixer.dt_proj.bias.copy_(_step_bias(len(mixer.dt_proj.bias), generator))
            mixer.A_log.copy_(torch.arange(1, mixer.A_log.shape[1] + 1).float().log())


def mixer_from_attention(config, kind, attention, generator, from_attention=True):
    """attention: name -> tensor of q_proj.weight, k_proj.weight, v_proj.weight, o_proj.weight.
    from_attention=False draws these parts as well (the paper's ablation)."""
    mixer = MIXERS[kind](config)
    _draw(mixer, kind, generator)
    if not from_attention:
        return mixer
    q, k, v, o = (attention[f"{name}_proj.weight"] for name in "qkvo")
    with torch.no_grad():
        if kind == MAMBA2:
            inner, xb = config.inner_size, config.xb_size
            _, x_rows, b_rows, c_rows, _ = mixer.in_proj.weight.split(
                [inner, xb, xb, inner, config.num_heads])
            for rows, source in ((x_rows, v), (b_rows, k), (c_rows, q)):
                rows.copy_(source)
        else:
            for part, source in ((mixer.in_proj_x, v), (mixer.B_proj, k), (mixer.C_proj, q)):
                part.weight.copy_(source)
        mixer.out_proj.weight.copy_(o)
    return mixer


def hybrid_tensors(config, tensors, layers, kind, seed, from_attention=True):
    """(config, tensors) of the untrained hybrid. Each layer draws from its own generator, so a
    mixer does not depend on the layout."""
    kinds, out = list(config.layers), dict(tensors)
    for index in layers:
        prefix = f"model.layers.{index}."
        attention = {name[len(prefix + "self_attn."):]: out.pop(name) for name in list(out)
                     if name.startswith(prefix + "self_attn.")}
        generator = torch.Generator().manual_seed(seed * 1000003 + index)
        mixer = mixer_from_attention(config, kind, attention, generator, from_attention)
        out.update({f"{prefix}mamba.{name}": tensor.detach()
                    for name, tensor in mixer.state_dict().items()})
        kinds[index] = kind
    return config.replace(layers=tuple(kinds)), out
