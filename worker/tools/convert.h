#pragma once

// Any checkpoint that krait reads becomes a Hugging Face folder: rows in that order, blocks
// decoded.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/core/dtype.h"

namespace krait {

struct ConvertOptions {
  std::string in;
  std::string out;  // may exist if it is an empty folder
  // A GGUF file to merge with the GGUF file `in` (worker/tools/overlay.h); empty: none.
  std::string overlay;
  // Layers to keep, increasing; renumbered from 0. Absent: all.
  std::optional<std::vector<int64_t>> layers;
  DType dtype = DType::kF32;  // kF32 (lossless for every block type), kBF16, kF16
  // Called now and then with what is written and what will be.
  std::function<void(int64_t bytes, int64_t total)> progress;
};

// Writes config.json, model.safetensors, tokenizer.json, tokenizer_config.json and
// generation_config.json. All or nothing: a folder beside `out` is filled, checked (it loads, with
// the source's tokenizer digest) and renamed. ALREADY_EXISTS if `out` holds anything; OUT_OF_RANGE
// if a layer is not in the model; UNAVAILABLE if the disk fails; else as Checkpoint, ModelConfig,
// Vocabulary and Overlay report the source.
absl::Status ConvertModel(const ConvertOptions& options);

}  // namespace krait
