#pragma once

// How numbers lie in a checkpoint file: plain ones and GGUF's blocks.

#include <cstdint>
#include <string_view>

namespace krait {

struct StorageType {
  const char* name;        // "F32", "Q4_1", ...
  int64_t block_elements;  // 1 for plain types
  int64_t block_bytes;
  // Decodes `num_blocks` blocks to f32, bit-equal to the PyPI package `gguf`. Null if the type
  // holds no floats or is not supported.
  void (*to_floats)(const uint8_t* blocks, int64_t num_blocks, float* out);
  bool is_integer;
};

// Null if the type is unknown. Types come from static tables.
const StorageType* StorageTypeFromGguf(uint32_t ggml_type);
const StorageType* StorageTypeFromSafetensors(std::string_view dtype);

}  // namespace krait
