"""ggml's block formats of 32 weights: f16 scale (and minimum), then the quantized values.

Decoding agrees bit for bit with worker/weights/gguf_tensors.cc. Arrays are numpy, float32.
"""

import numpy as np

BLOCK = 32
# name -> (ggml number, bytes a block, bits, has a minimum)
FORMATS = {"Q4_0": (2, 18, 4, False), "Q4_1": (3, 20, 4, True), "Q5_0": (6, 22, 5, False),
           "Q5_1": (7, 24, 5, True), "Q8_0": (8, 34, 8, False)}
PLAIN = {"F32": (0, np.dtype("<f4")), "F16": (1, np.dtype("<f2")), "I32": (26, np.dtype("<i4"))}


def _f16(raw):
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


def decode(name, raw):
    """raw: bytes of whole blocks -> float32 [count * 32]."""
    _, size, bits, has_min = FORMATS[name]
    blocks = np.frombuffer(raw, np.uint8).reshape(-1, size)
    scale = _f16(blocks[:, :2])
    if name == "Q8_0":
        return (blocks[:, 2:].view(np.int8).astype(np.float32) * scale).reshape(-1)
    start = 4 if has_min else 2
    packed = blocks[:, -16:]
    quants = np.concatenate([packed & 15, packed >> 4], 1).astype(np.int32)
    if bits == 5:
        high = np.unpackbits(blocks[:, start:start + 4], axis=1, bitorder="little")
        quants |= high.astype(np.int32) << 4
    if has_min:
        return (scale * quants.astype(np.float32) + _f16(blocks[:, 2:4])).reshape(-1)
    return (scale * (quants - (1 << (bits - 1))).astype(np.float32)).reshape(-1)


def _scales(name, values):
    """(scale, minimum) a block as float32 of their f16 roundings; minimum is 0 where there is none."""
    _, _, bits, has_min = FORMATS[name]
    if has_min:
        low = values.min(1, keepdims=True)
        scale = (values.max(1, keepdims=True) - low) / ((1 << bits) - 1)
        return scale.astype("<f2").astype(np.float32), low.astype("<f2").astype(np.float32)
    peak = np.take_along_axis(values, np.abs(values).argmax(1)[:, None], 1)
    # The end of the range with one more value goes to the largest weight; Q8_0 is symmetric.
    scale = np.abs(peak) / 127 if name == "Q8_0" else peak / -(1 << (bits - 1))
    return scale.astype("<f2").astype(np.float32), np.zeros_like(scale)


def encode(name, values):
    """float32, a multiple of 32 elements -> bytes."""
    number, size, bits, has_min = FORMATS[name]
    values = np.ascontiguousarray(values, np.float32).reshape(-1, BLOCK)
    scale, low = _scales(name, values)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    quants = np.rint((values - low) * inverse).astype(np.int32)
    out = np.zeros((len(values), size), np.uint8)
    out[:, :2] = scale.astype("<f2").view(np.uint8).reshape(-1, 2)
    if name == "Q8_0":
        out[:, 2:] = quants.clip(-127, 127).astype(np.int8).view(np.uint8)
        return out.tobytes()
    quants = (quants + (0 if has_min else 1 << (bits - 1))).clip(0, (1 << bits) - 1)
    start = 2
    if has_min:
        out[:, 2:4] = low.astype("<f2").view(np.uint8).reshape(-1, 2)
        start = 4
    if bits == 5:
        out[:, start:start + 4] = np.packbits((quants >> 4).astype(np.uint8), axis=1,
                                              bitorder="little")
    quants &= 15
    out[:, -16:] = (quants[:, :16] | (quants[:, 16:] << 4)).astype(np.uint8)
    return out.tobytes()
