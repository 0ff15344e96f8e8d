#pragma once

// What GGUF calls Llama's tensors, and in which order it keeps their rows
// (https://github.com/ggml-org/llama.cpp, gguf-py/gguf/tensor_mapping.py, convert_hf_to_gguf.py).

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/gguf_reader.h"
#include "worker/weights/checkpoint.h"

namespace krait {

class GgufNaming {
 public:
  // INVALID_ARGUMENT if the file's architecture is unknown or its head counts are missing.
  static absl::StatusOr<GgufNaming> FromHeader(const GgufHeader& header);

  // Sets `tensor.name` and `tensor.interleaved_head_dim` from its stored name. A stored name that
  // is unknown stays: it shows among the tensors that nobody reads. INVALID_ARGUMENT if q or k rows
  // cannot be heads.
  absl::Status Apply(CheckpointTensor& tensor) const;

 private:
  int64_t num_heads_ = 0;
  int64_t num_kv_heads_ = 0;
};

// The stored row of row `row` of a tensor whose heads of `head_dim` rows are interleaved: Hugging
// Face's row p * head_dim / 2 + i of a head, p in {0, 1}, is GGUF's row 2 i + p. 0: `row` itself.
int64_t StoredRow(int64_t row, int64_t head_dim);

// What the model's file calls the tensor `name`; for messages.
std::string StoredName(const ModelFiles& files, std::string_view name);

}  // namespace krait
