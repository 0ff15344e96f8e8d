"""Packed token ids: NAME.bin holds little-endian uint16, NAME.json what they are. NAME.bin.xz will do
as well. Documents end in the separator id, so a window of any length is training text."""

import hashlib
import json
import lzma
import pathlib

import numpy as np

from .errors import DataError

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "lp": 1, "pb": 1,
             "dict_size": 256 << 20}]


def write(path, ids, vocab_size, separator, compress=False):
    """ids: uint16 array; returns the bytes on disk. `path` is without suffix."""
    path, raw = pathlib.Path(path), np.asarray(ids, "<u2").tobytes()
    entry = {"tokens": len(ids), "vocab_size": vocab_size, "separator": separator,
             "sha256": hashlib.sha256(raw).hexdigest()}
    data = lzma.compress(raw, lzma.FORMAT_XZ, filters=_FILTERS) if compress else raw
    path.with_suffix(".bin.xz" if compress else ".bin").write_bytes(data)
    path.with_suffix(".json").write_text(json.dumps(entry, indent=2) + "\n", encoding="utf-8")
    return len(data)


def read(path, vocab_size):
    """uint16 array. DataError names the file and what does not fit."""
    path = pathlib.Path(path)
    plain, packed = path.with_suffix(".bin"), path.with_suffix(".bin.xz")
    try:
        entry = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        raw = plain.read_bytes() if plain.exists() else lzma.decompress(packed.read_bytes())
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise DataError(f"{path}: {error}") from error
    if len(raw) != 2 * entry.get("tokens", -1):
        raise DataError(f"{path}: {len(raw)} bytes, {entry.get('tokens')} tokens of 2 wanted")
    if hashlib.sha256(raw).hexdigest() != entry.get("sha256"):
        raise DataError(f"{path}: its SHA-256 is not the one in {path.with_suffix('.json').name}")
    ids = np.frombuffer(raw, "<u2")
    if len(ids) and ids.max() >= vocab_size:
        raise DataError(f"{path}: token {ids.max()} is not below the vocabulary's {vocab_size}")
    return ids
