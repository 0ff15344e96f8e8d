#!/usr/bin/env python3
"""Compares hybrid_oracle.py's Mamba2 mixer with transformers' Zamba2MambaMixer, where the two have the
same shapes: as many groups as heads (ratio 1), expand 1, heads as wide as their states.

    python3 tests/worker/models/compare_zamba2.py

Needs PyTorch and transformers 4.49 or newer. Prints the largest difference, relative to the largest
output; exits with 1 if it is above 1e-5.
"""
import sys

import torch
from transformers.models.zamba2.configuration_zamba2 import Zamba2Config
from transformers.models.zamba2.modeling_zamba2 import Zamba2MambaMixer

import hybrid_oracle as oracle

TOKENS = 150
PREFIX = "model.layers.0."


def zamba2_mixer():
    hidden = oracle.KV_HEADS * oracle.HEAD_DIM
    config = Zamba2Config(
        hidden_size=hidden, num_hidden_layers=1, mamba_d_state=oracle.HEAD_DIM, mamba_d_conv=oracle.TAPS,
        mamba_expand=1, mamba_ngroups=oracle.KV_HEADS, n_mamba_heads=oracle.KV_HEADS,
        time_step_min=0.0, time_step_limit=(0.0, float("inf")), chunk_size=32, use_mem_eff_path=False)
    mixer = Zamba2MambaMixer(config, layer_idx=0)
    assert mixer.head_dim == oracle.HEAD_DIM, mixer.head_dim
    mixer.norm.variance_epsilon = oracle.EPS
    with torch.no_grad():
        for name, parameter in mixer.named_parameters():
            parameter.copy_(oracle.tensor(f"{PREFIX}mamba.{name}", *parameter.shape))
    return mixer


def main():
    torch.manual_seed(1)
    hidden = oracle.KV_HEADS * oracle.HEAD_DIM
    inputs = torch.randn(TOKENS, hidden, dtype=torch.float64)
    expected = oracle.mamba2(inputs, PREFIX, 1)
    with torch.no_grad():
        outputs = zamba2_mixer().torch_forward(inputs.float()[None])[0].double()
    difference = ((outputs - expected).abs().max() / expected.abs().max()).item()
    print(f"largest difference: {difference:.2g} of the largest output, {TOKENS} tokens")
    sys.exit(0 if difference <= 1e-5 else 1)


if __name__ == "__main__":
    main()
