#!/usr/bin/env python3
"""Writes testdata/gguf_blocks.gguf: random blocks of every type krait decodes, each beside the F32
values that the PyPI package `gguf` (https://pypi.org/project/gguf/) decodes them to.

    pip install gguf==0.19.0 && python3 tests/worker/weights/make_gguf_fixture.py

Tensor "<type>" holds the blocks, "<type>.f32" the values.
"""

import pathlib

import gguf
import numpy as np

TYPES = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
ELEMENTS = 1024
# Offsets of the f16 scales in a block: random bits there would be mostly huge, infinite or NaN.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def random_blocks(rng, name):
    if name == "F16":
        bits = rng.integers(0, 0x7c00, ELEMENTS, dtype=np.uint16)
        bits |= rng.integers(0, 2, ELEMENTS, dtype=np.uint16) << 15
        return bits.view(np.uint8)
    if name == "BF16":
        bits = rng.integers(0, 0x7f80, ELEMENTS, dtype=np.uint16)
        bits |= rng.integers(0, 2, ELEMENTS, dtype=np.uint16) << 15
        return bits.view(np.uint8)
    block_elements, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    blocks = rng.integers(0, 256, (ELEMENTS // block_elements, block_bytes), dtype=np.uint8)
    for offset in SCALES[name]:
        # From subnormal to a few hundred, both signs.
        scale = np.ldexp(rng.standard_normal(len(blocks)), rng.integers(-24, 8, len(blocks)))
        blocks[:, offset:offset + 2] = scale.astype("<f2").view(np.uint8).reshape(-1, 2)
    return blocks.reshape(-1)


def main():
    rng = np.random.default_rng(20261124)
    path = pathlib.Path(__file__).parent / "testdata" / "gguf_blocks.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_head_count(1)
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        blocks = random_blocks(rng, name)
        values = gguf.quants.dequantize(blocks, kind).astype(np.float32).reshape(-1)
        assert values.size == ELEMENTS and np.isfinite(values).all(), name
        writer.add_tensor(name, blocks, raw_shape=[blocks.size], raw_dtype=kind)
        writer.add_tensor(name + ".f32", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
