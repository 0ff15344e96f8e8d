#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/input_file.h"
#include "worker/weights/storage_type.h"

namespace krait {

struct SafetensorsTensor {
  std::string name;
  const StorageType* type = nullptr;
  std::vector<int64_t> shape;  // slowest dimension first; empty for a scalar
  uint64_t offset = 0;         // from the start of the file
  uint64_t num_bytes = 0;
};

// Reads and checks one file's header (https://huggingface.co/docs/safetensors#format). After
// success the tensors, sorted by offset, fill the file exactly: no hole, overlap or trailing byte.
// Stricter than the format: no duplicate keys, integers only, names of at most 512 bytes, at most 8
// dimensions. Looser in one point: spaces, tabs and newlines may stand before the header's `{`,
// which some writers use to align the data. INVALID_ARGUMENT names file, tensor and reason.
absl::StatusOr<std::vector<SafetensorsTensor>> ReadSafetensorsHeader(const InputFile& file);

}  // namespace krait
