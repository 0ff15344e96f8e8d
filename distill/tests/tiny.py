"""Tiny models and a tokenizer that krait reads."""

import json
import pathlib

import torch

from distill import checkpoint
from distill.config import ModelConfig
from distill.model import HybridLm

VOCAB = 260


def config(**changes):
    fields = dict(hidden_size=96, num_layers=4, num_heads=6, num_kv_heads=3, head_dim=16,
                  intermediate_size=48, vocab_size=VOCAB, rms_norm_eps=1e-5, rope_theta=10000.0,
                  max_positions=512, tie_word_embeddings=True,
                  extra={"bos_token_id": 1, "eos_token_id": 2})
    fields.update(changes)
    return ModelConfig(**fields)


def model(seed=0, **changes):
    """Every weight is drawn, scaled so that layers matter."""
    torch.manual_seed(seed)
    made = HybridLm(config(**changes))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith(("norm.weight", ".D")):
                parameter.copy_(1 + 0.2 * torch.randn(parameter.shape))
            elif name.endswith(("A_log", "dt_bias")):
                parameter.normal_(0, 1)
            elif name.endswith("embed_tokens.weight"):
                parameter.normal_(0, 0.3)
    return made.eval()


def _byte_symbols():
    """GPT-2's printable alphabet."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    symbols = {b: chr(b) for b in printable}
    symbols.update({b: chr(256 + i) for i, b in enumerate(others)})
    return [symbols[b] for b in range(256)]


def pieces_of_vocabulary():
    """One id a byte after three control tokens; id 259 is a merge."""
    return ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *_byte_symbols(), "th"]


def gguf_tokenizer():
    """The same as GGUF metadata."""
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": pieces_of_vocabulary(),
            "tokenizer.ggml.token_type": [3, 3, 3] + [1] * 257, "tokenizer.ggml.merges": ["t h"],
            "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.add_bos_token": False}


def write_tokenizer(folder):
    pieces = pieces_of_vocabulary()
    special = [{"id": i, "content": pieces[i], "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": True} for i in range(3)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    document = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": None, "post_processor": None, "decoder": byte_level,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, byte_level]},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "byte_fallback": False, "vocab": {p: i for i, p in enumerate(pieces)},
                  "merges": ["t h"]}}
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}), encoding="utf-8")
    return folder


def write_folder(made, folder, scratch):
    """`made` as a folder that krait loads."""
    checkpoint.save_folder(folder, made.config, made.state_dict(),
                           write_tokenizer(pathlib.Path(scratch) / "tokenizer"))
    return folder
