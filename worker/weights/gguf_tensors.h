#pragma once

// GGUF's block formats (https://github.com/ggml-org/ggml, ggml-quants.c), decoded to f32. The
// order of operations is that of the PyPI package `gguf`, so the bits are its bits.

#include <cstdint>

namespace krait {

// Each decodes `num_blocks` consecutive blocks: 32 elements each, 256 for the K types.
void DequantizeQ4_0(const uint8_t* blocks, int64_t num_blocks, float* out);
void DequantizeQ4_1(const uint8_t* blocks, int64_t num_blocks, float* out);
void DequantizeQ5_0(const uint8_t* blocks, int64_t num_blocks, float* out);
void DequantizeQ5_1(const uint8_t* blocks, int64_t num_blocks, float* out);
void DequantizeQ8_0(const uint8_t* blocks, int64_t num_blocks, float* out);
void DequantizeQ4_K(const uint8_t* blocks, int64_t num_blocks, float* out);
void DequantizeQ5_K(const uint8_t* blocks, int64_t num_blocks, float* out);
void DequantizeQ6_K(const uint8_t* blocks, int64_t num_blocks, float* out);

}  // namespace krait
