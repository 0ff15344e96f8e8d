"""Model folders and GGUF files as (ModelConfig, name -> float32 tensor) and back.

Names are Hugging Face's. Fused projections (mha.in_proj, Mamba1's mamba.in_proj) are split on
reading; GGUF's interleaved rows of q and k are put back. Pickles are loaded weights-only.
"""

import pathlib
import re
import shutil

import torch

from . import safetensors_file
from .config import ATTENTION, MAMBA1, MAMBA2, ModelConfig, config_json, dt_rank, \
    mamba_config_json, read_config
from .errors import DataError, UserError
from .gguf_file import GgufFile
from .model import HybridLm

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
TOKEN_MAP = "draft.token_map"  # a draft's head row -> token id, increasing

_GGUF_GLOBALS = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight":
                 "model.norm.weight", "output.weight": "lm_head.weight"}
_GGUF_LAYER = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k":
               "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output":
               "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate":
               "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def deinterleave(rows, num_heads):
    """GGUF keeps a head's halves interleaved: its row 2 i + p is Hugging Face's p half + i."""
    shape = rows.shape
    return rows.reshape(num_heads, shape[0] // num_heads // 2, 2, *shape[1:]).transpose(1, 2) \
        .reshape(shape)


def _gguf_config(gguf):
    def get(key, default=None):
        value = gguf.metadata.get(f"llama.{key}", default)
        if not isinstance(value, (int, float)):
            raise DataError(f"{gguf.path}: llama.{key}: a number wanted, got {value!r}")
        return value
    if gguf.metadata.get("general.architecture") != "llama":
        raise DataError(f"{gguf.path}: general.architecture: "
                        f"{gguf.metadata.get('general.architecture')!r}; \"llama\" wanted")
    heads, hidden = get("attention.head_count"), get("embedding_length")
    extra = {}
    for key, name in (("bos_token_id", "bos_token_id"), ("eos_token_id", "eos_token_id"),
                      ("padding_token_id", "pad_token_id")):
        if f"tokenizer.ggml.{key}" in gguf.metadata:
            extra[name] = gguf.metadata[f"tokenizer.ggml.{key}"]
    if "rope_freqs.weight" in gguf.names:
        raise DataError(f"{gguf.path}: rope_freqs.weight: not supported; `krait convert` first")
    return ModelConfig(
        hidden_size=hidden, num_layers=get("block_count"), num_heads=heads,
        num_kv_heads=get("attention.head_count_kv", heads),
        head_dim=get("rope.dimension_count", hidden // heads),
        intermediate_size=get("feed_forward_length"),
        vocab_size=gguf.read("token_embd.weight").shape[0],
        rms_norm_eps=float(f"{get('attention.layer_norm_rms_epsilon'):.7g}"),
        rope_theta=float(get("rope.freq_base", 10000.0)), max_positions=get("context_length"),
        tie_word_embeddings="output.weight" not in gguf.names, extra=extra)


def _gguf_name(path, name):
    if name in _GGUF_GLOBALS:
        return _GGUF_GLOBALS[name]
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if not match or match[2] not in _GGUF_LAYER:
        raise DataError(f"{path}: tensor {name}: the model has no place for it")
    return f"model.layers.{match[1]}.{_GGUF_LAYER[match[2]]}.weight"


def _load_gguf(path):
    gguf = GgufFile(path)
    config, tensors = _gguf_config(gguf), {}
    for name in gguf.names:
        tensor = torch.from_numpy(gguf.read(name))
        if name.endswith("attn_q.weight"):
            tensor = deinterleave(tensor, config.num_heads)
        elif name.endswith("attn_k.weight"):
            tensor = deinterleave(tensor, config.num_kv_heads)
        tensors[_gguf_name(gguf.path, name)] = tensor.contiguous()
    return config, tensors


def load_pickle(path):
    """A pytorch_model.bin: tensors only, so that no code in it runs."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of a damaged or hostile file
        raise DataError(f"{path}: not loadable as weights alone: {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, torch.Tensor)
                                                for t in tensors.values()):
        raise DataError(f"{path}: holds more than named tensors")
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def stored_tensors(folder):
    """name -> tensor as the folder's files have it: safetensors, else .bin."""
    folder = pathlib.Path(folder)
    files = sorted(folder.glob("*.safetensors"))
    read = safetensors_file.load_file
    if not files:
        files, read = sorted(folder.glob("pytorch_model*.bin")), load_pickle
    if not files:
        raise DataError(f"{folder}: holds neither safetensors nor pytorch_model*.bin")
    tensors = {}
    for file in files:
        tensors.update(read(file))
    return tensors


def _split_fused(config, tensors):
    """mha.* and fused Mamba1 projections by their parts' names."""
    out = {}
    for name, tensor in tensors.items():
        base, _, part = name.rpartition("mha.")
        if part == "in_proj.weight":
            q, k, v = tensor.split([config.inner_size, config.xb_size, config.xb_size])
            out.update({f"{base}self_attn.{n}_proj.weight": t for n, t in zip("qkv", (q, k, v))})
        elif part == "out_proj.weight" and base:
            out[base + "self_attn.o_proj.weight"] = tensor
        elif name.endswith("mamba.in_proj.weight") and f"{name[:-14]}dt_proj.weight" in tensors:
            sizes = [config.inner_size, config.xb_size, config.xb_size, config.inner_size,
                     dt_rank(config)]
            names = ["in_proj_z", "in_proj_x", "B_proj", "C_proj", "dt_proj_down"]
            out.update({f"{name[:-14]}{n}.weight": t for n, t in zip(names, tensor.split(sizes))})
        else:
            out[name] = tensor
    return out


def kinds(config, tensors):
    """A layer's kind, by the tensors it has."""
    found = []
    for index in range(config.num_layers):
        a_log = tensors.get(f"model.layers.{index}.mamba.A_log")
        found.append(ATTENTION if a_log is None else MAMBA1 if a_log.dim() == 2 else MAMBA2)
    return tuple(found)


def load(path):
    """(config, float32 tensors) of a .gguf file or a folder. A draft's map stays int64."""
    path = pathlib.Path(path)
    if path.suffix == ".gguf":
        return _load_gguf(path)
    if not path.is_dir():
        raise UserError(f"{path}: a .gguf file or a model folder wanted")
    config = read_config(path / "config.json")
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor.long()
               for name, tensor in stored_tensors(path).items() if "rotary_emb" not in name}
    tensors = _split_fused(config, tensors)
    if "lm_head.weight" in tensors and config.tie_word_embeddings:
        del tensors["lm_head.weight"]  # .bin files store the embedding a second time
    if TOKEN_MAP in tensors:
        config = config.replace(draft_vocab_size=len(tensors[TOKEN_MAP]))
    return config.replace(layers=kinds(config, tensors)), tensors


def build(config, tensors):
    """The model with these weights; every tensor finds its place, and every place a tensor."""
    model = HybridLm(config)
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name not in tensors:
            raise DataError(f"tensor {name}: missing")
        if tensors[name].shape != tensor.shape:
            raise DataError(f"tensor {name}: shape {list(tensors[name].shape)} where the config "
                            f"needs {list(tensor.shape)}")
    for name in tensors:
        if name not in wanted and name != TOKEN_MAP:
            raise DataError(f"tensor {name}: the model has no place for it")
    model.load_state_dict({name: tensors[name] for name in wanted})
    return model


def save_folder(out, config, tensors, tokenizer_from=None):
    """A Hugging Face folder that krait loads, all or nothing; `out` may not hold anything yet."""
    out = pathlib.Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is no empty folder")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "config.json").write_text(config_json(config), encoding="utf-8")
    mamba = mamba_config_json(config)
    if mamba:
        (partial / "mamba_config.json").write_text(mamba, encoding="utf-8")
    safetensors_file.save_file(tensors, partial / "model.safetensors")
    for name in TOKENIZER_FILES:
        source = pathlib.Path(tokenizer_from or "") / name
        if tokenizer_from and source.exists():
            shutil.copyfile(source, partial / name)
    if out.exists():
        out.rmdir()
    partial.rename(out)
