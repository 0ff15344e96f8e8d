"""Reads and writes GGUF files, version 3 (https://github.com/ggml-org/ggml, docs/gguf.md)."""

import struct

import numpy as np

from . import blocks
from .errors import DataError

MAGIC, ALIGNMENT = b"GGUF", 32
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q",
            11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_NAMES = {number: name for name, (number, *_) in {**blocks.FORMATS, **blocks.PLAIN}.items()}


class _Cursor:
    def __init__(self, path, data):
        self.path, self.data, self.at = path, data, 0

    def scalar(self, form):
        size = struct.calcsize(form)
        if self.at + size > len(self.data):
            raise DataError(f"{self.path}: ends inside the header")
        value, = struct.unpack_from(form, self.data, self.at)
        self.at += size
        return value

    def string(self):
        size = self.scalar("<Q")
        if size > len(self.data) - self.at:
            raise DataError(f"{self.path}: a string of {size} bytes is longer than the file")
        self.at += size
        return bytes(self.data[self.at - size:self.at]).decode("utf-8", "replace")

    def value(self, kind):
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            element, count = self.scalar("<I"), self.scalar("<Q")
            if count > len(self.data) - self.at:
                raise DataError(f"{self.path}: an array of {count} is longer than the file")
            return [self.value(element) for _ in range(count)]
        if kind not in _SCALARS:
            raise DataError(f"{self.path}: metadata type {kind} is unknown")
        return self.scalar(_SCALARS[kind])


def _num_bytes(path, name, kind, shape):
    elements = int(np.prod(shape, dtype=np.int64)) if shape else 1
    if kind in blocks.FORMATS:
        if shape[-1] % blocks.BLOCK:
            raise DataError(f"{path}: tensor {name}: rows of {shape[-1]} are no whole blocks")
        return elements // blocks.BLOCK * blocks.FORMATS[kind][1]
    return elements * blocks.PLAIN[kind][1].itemsize


class GgufFile:
    """metadata: key -> value; names: tensor names in file order. Tensors decode when read."""

    def __init__(self, path):
        self.path = str(path)
        try:
            self._data = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}") from error
        cursor = _Cursor(self.path, self._data)
        if bytes(self._data[:4]) != MAGIC:
            raise DataError(f"{path}: no GGUF file")
        cursor.at = 4
        version, num_tensors, num_keys = (cursor.scalar(f) for f in ("<I", "<Q", "<Q"))
        if version not in (2, 3):
            raise DataError(f"{path}: GGUF version {version} is not supported; 2 and 3 are")
        self.metadata = {}
        for _ in range(num_keys):
            key = cursor.string()
            self.metadata[key] = cursor.value(cursor.scalar("<I"))
        self._read_table(cursor, num_tensors)

    def _read_table(self, cursor, num_tensors):
        self._tensors = {}
        for _ in range(num_tensors):
            name, rank = cursor.string(), cursor.scalar("<I")
            shape = tuple(cursor.scalar("<Q") for _ in range(min(rank, 8)))[::-1]
            number, offset = cursor.scalar("<I"), cursor.scalar("<Q")
            if number not in _NAMES:
                raise DataError(f"{self.path}: tensor {name}: ggml type {number} is not supported; "
                                f"{', '.join(sorted(_NAMES.values()))} are")
            self._tensors[name] = (_NAMES[number], shape, offset)
        alignment = self.metadata.get("general.alignment", ALIGNMENT)
        start = -(-cursor.at // alignment) * alignment
        for name, (kind, shape, offset) in self._tensors.items():
            end = start + offset + _num_bytes(self.path, name, kind, shape)
            if end > len(self._data):
                raise DataError(f"{self.path}: tensor {name}: ends at byte {end} of a file of "
                                f"{len(self._data)}")
            self._tensors[name] = (kind, shape, start + offset)

    @property
    def names(self):
        return list(self._tensors)

    def kind(self, name):
        return self._tensors[name][0]

    def read(self, name):
        """float32 (int32 for I32), slowest dimension first."""
        kind, shape, offset = self._tensors[name]
        raw = self._data[offset:offset + _num_bytes(self.path, name, kind, shape)].tobytes()
        if kind in blocks.FORMATS:
            return blocks.decode(kind, raw).reshape(shape)
        values = np.frombuffer(raw, blocks.PLAIN[kind][1]).reshape(shape)
        return values.copy() if kind == "I32" else values.astype(np.float32)


def _text(value):
    data = value.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _metadata(value):
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<Iq", 11, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if value and isinstance(value[0], str):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_text, value))
    return struct.pack("<IIQ", _ARRAY, 11, len(value)) + struct.pack(f"<{len(value)}q", *value)


def write_gguf(path, metadata, tensors):
    """tensors: name -> (kind, array). Metadata values: bool, int, float, str or a list of
    ints or of texts."""
    head, body, offset = [], [], 0
    for name, (kind, array) in tensors.items():
        array = np.ascontiguousarray(array)
        if kind in blocks.FORMATS:
            _num_bytes(path, name, kind, array.shape)
            raw = blocks.encode(kind, array)
        else:
            raw = array.astype(blocks.PLAIN[kind][1]).tobytes()
        number = {**blocks.FORMATS, **blocks.PLAIN}[kind][0]
        head.append(_text(name) + struct.pack("<I", array.ndim)
                    + struct.pack(f"<{array.ndim}Q", *array.shape[::-1])
                    + struct.pack("<IQ", number, offset))
        padding = -len(raw) % ALIGNMENT
        body.append(raw + b"\0" * padding)
        offset += len(raw) + padding
    keys = b"".join(_text(key) + _metadata(value) for key, value in metadata.items())
    header = MAGIC + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + keys + b"".join(head)
    with open(path, "wb") as file:
        file.write(header + b"\0" * (-len(header) % ALIGNMENT))
        file.writelines(body)
