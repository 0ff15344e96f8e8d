"""distill overlay: a trained hybrid or draft without what its base file has already: one GGUF file
that `krait convert --base` merges with the base again.

Matrices are in blocks of 32 weights, the rest is float32. Tensors keep Hugging Face's names. The
metadata name the base file's SHA-256 and say whether this is the "mixers" of a hybrid (every other
tensor is the base's) or a whole "draft" (its embedding alone is the base's)."""

import hashlib
import pathlib

import torch

from . import blocks, checkpoint
from .config import ATTENTION
from .errors import DataError, UserError
from .gguf_file import GgufFile, write_gguf

FORMATS = ("Q4_1", "Q5_0", "Q5_1", "Q8_0")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def parts(config, tensors):
    """("mixers" or "draft", the tensors that are no base's)."""
    if checkpoint.TOKEN_MAP in tensors:
        return "draft", {name: tensor for name, tensor in tensors.items()
                         if name != "model.embed_tokens.weight"}
    own = tuple(f"model.layers.{i}." for i, kind in enumerate(config.layers) if kind != ATTENTION)
    return "mixers", {name: tensor for name, tensor in tensors.items()
                      if name.startswith(own) and (".mamba." in name or "layernorm" in name)}


def kind_of(name, tensor, quantization):
    if name == checkpoint.TOKEN_MAP:
        return "I32"
    wide = tensor.dim() == 2 and tensor.shape[-1] % blocks.BLOCK == 0 and tensor.numel() >= 1024
    return quantization if wide and not name.endswith("A_log") else "F32"


def write(path, base_file, config, tensors, quantization, notes=None):
    """`notes`: more metadata (licence, recipe, ...) as text. Returns the bytes written."""
    path = pathlib.Path(path)
    if path.exists():
        raise UserError(f"{path}: exists")
    what, own = parts(config, tensors)
    if not own:
        raise UserError(f"{path}: the model has nothing that its base has not")
    metadata = {"general.architecture": "llama", "llama.block_count": config.num_layers,
                "llama.attention.head_count": config.num_heads,
                "llama.attention.head_count_kv": config.num_kv_heads,
                "krait.overlay.kind": what, "krait.overlay.base_sha256": sha256(base_file),
                **(notes or {})}
    write_gguf(path, metadata, {name: (kind_of(name, tensor, quantization), tensor.numpy())
                                for name, tensor in sorted(own.items())})
    return path.stat().st_size


def merge(base_file, path):
    """(config, tensors) of the hybrid that the "mixers" overlay `path` makes of its base."""
    file = GgufFile(path)
    if file.metadata.get("krait.overlay.kind") != "mixers":
        raise DataError(f"{path}: krait.overlay.kind: "
                        f"{file.metadata.get('krait.overlay.kind')!r}; \"mixers\" wanted")
    if file.metadata.get("krait.overlay.base_sha256") != sha256(base_file):
        raise DataError(f"{path}: {base_file} is not the base it was made for")
    config, tensors = checkpoint.load(base_file)
    tensors.update({name: torch.from_numpy(file.read(name)) for name in file.names})
    config = config.replace(layers=checkpoint.kinds(config, tensors))
    replaced = tuple(f"model.layers.{i}.self_attn." for i, kind in enumerate(config.layers)
                     if kind != ATTENTION)
    return config, {name: tensor for name, tensor in tensors.items()
                    if not name.startswith(replaced)}


def rounded(config, tensors, quantization):
    """The tensors as they come out of an overlay: what its quantization costs can be measured."""
    _, own = parts(config, tensors)
    out = dict(tensors)
    for name, tensor in own.items():
        kind = kind_of(name, tensor, quantization)
        if kind in blocks.FORMATS:
            values = blocks.decode(kind, blocks.encode(kind, tensor.numpy()))
            out[name] = tensor.new_tensor(values).reshape(tensor.shape)
    return out


def add_arguments(parser):
    parser.add_argument("--base", required=True, metavar="FILE", help="the base's .gguf file")
    parser.add_argument("--model", required=True, metavar="DIR", help="the trained hybrid or draft")
    parser.add_argument("--out", required=True, metavar="FILE", help="the .gguf file to write")
    parser.add_argument("--quantization", choices=FORMATS, default="Q5_1")


def run(args):
    config, tensors = checkpoint.load(args.model)
    size = write(args.out, args.base, config, tensors, args.quantization)
    print(f"{args.out}: {size / 2**20:.2f} MiB")
    return 0
