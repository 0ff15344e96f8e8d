"""Reads and writes safetensors (https://huggingface.co/docs/safetensors): Debian 12 has no package
of it, and the format is a JSON header before plain arrays."""

import json
import struct

import numpy as np
import torch

from .errors import DataError

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16,
           "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_MAX_HEADER = 100 << 20


def _header(path, data):
    size = struct.unpack("<Q", data[:8].tobytes())[0] if len(data) >= 8 else _MAX_HEADER + 1
    if size > min(_MAX_HEADER, len(data) - 8):
        raise DataError(f"{path}: no safetensors file: its header would be {size} bytes long")
    try:
        return json.loads(data[8:8 + size].tobytes()), 8 + size
    except ValueError as error:
        raise DataError(f"{path}: header: {error}") from error


def load_file(path):
    """name -> tensor, as stored."""
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
    header, start = _header(path, data)
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape, (begin, end) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
            if not 0 <= begin <= end <= len(data) - start:
                raise ValueError(f"bytes {begin} to {end} of {len(data) - start}")
            raw = torch.from_numpy(data[start + begin:start + end].copy())
            tensors[name] = raw.view(dtype).reshape(shape)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"{path}: tensor {name}: {error!r}") from error
    return tensors


def save_file(tensors, path):
    """Contiguous copies of `tensors`, in the order of their names."""
    header, offset, parts = {}, 0, []
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
        parts.append(tensor)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in parts:
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
