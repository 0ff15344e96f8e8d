"""The hybrid stack. state_dict() has a checkpoint's names: model.layers.0.mamba.in_proj.weight."""

import torch
import torch.nn.functional as F
from torch import nn

from .config import ATTENTION, MAMBA1, MAMBA2
from .mixers import Attention, Mamba1, Mamba2, rms_norm, rotary_tables

MIXERS = {MAMBA1: Mamba1, MAMBA2: Mamba2}


class RmsNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        return rms_norm(x, self.weight, self.eps)


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, wide = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(hidden, wide, bias=False)
        self.up_proj = nn.Linear(hidden, wide, bias=False)
        self.down_proj = nn.Linear(wide, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """A layer mixes by `self_attn` or by `mamba`. While a Mamba layer is trained it may keep the
    attention that it replaces (see stages)."""

    def __init__(self, config, kind):
        super().__init__()
        self.input_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = Mlp(config)
        if kind == ATTENTION:
            self.self_attn = Attention(config)
        else:
            self.mamba = MIXERS[kind](config)
        self.uses_mamba = kind != ATTENTION

    @property
    def mixer(self):
        return self.mamba if self.uses_mamba else self.self_attn

    def forward(self, x, rotary):
        x = x + self.mixer(self.input_layernorm(x), rotary)
        return x + self.mlp(self.post_attention_layernorm(x))

    def step(self, x, position, cache, rotary):
        x = x + self.mixer.step(self.input_layernorm(x), position, cache, rotary)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, kind) for kind in config.layers)
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)


class HybridLm(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        if not config.tie_word_embeddings:
            rows = config.draft_vocab_size or config.vocab_size
            self.lm_head = nn.Linear(config.hidden_size, rows, bias=False)
        self._rotary = None
        self.run_layer = Layer.forward  # may be replaced by a compiled one

    @property
    def head_weight(self):  # [rows, hidden]
        return self.model.embed_tokens.weight if self.config.tie_word_embeddings \
            else self.lm_head.weight

    def rotary(self, length):
        device = self.model.norm.weight.device
        if self._rotary is None or len(self._rotary[0]) < length or self._rotary[0].device != device:
            self._rotary = rotary_tables(self.config, length, device)
        return self._rotary

    def hidden(self, ids):
        """ids [batch, time] -> what the head reads, [batch, time, hidden]."""
        rotary = tuple(t[:ids.shape[1]] for t in self.rotary(ids.shape[1]))
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = self.run_layer(layer, x, rotary)
        return self.model.norm(x)

    def forward(self, ids):
        """Logits [batch, time, head rows], float32."""
        return F.linear(self.hidden(ids), self.head_weight).float()

    def new_cache(self, batch, length):
        like = self.model.norm.weight.new_zeros((), dtype=self.model.embed_tokens.weight.dtype)
        return [layer.mixer.new_cache(batch, length, like) for layer in self.model.layers]

    def step(self, ids, position, cache):
        """Logits [batch, head rows] after one more token; the plain twin of forward."""
        rotary = self.rotary(max(position + 1, 2048))
        x = self.model.embed_tokens(ids)
        for layer, state in zip(self.model.layers, cache):
            x = layer.step(x, position, state, rotary)
        return F.linear(self.model.norm(x), self.head_weight).float()
