#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/gguf_cursor.h"

namespace krait {

struct GgufTensorInfo {
  std::string name;
  uint32_t type = 0;           // ggml_type: 0 F32, 1 F16, 2 Q4_0, 3 Q4_1, 8 Q8_0, 30 BF16, ...
  std::vector<int64_t> shape;  // as stored: fastest dimension first, so a matrix is {k, n}
  uint64_t offset = 0;         // of the first byte, from the start of the file
  uint64_t num_bytes = 0;
};

// Reads what follows a tensor's name: its shape, type and offset in the data section, and computes
// num_bytes. INVALID_ARGUMENT says which of them cannot be.
absl::StatusOr<GgufTensorInfo> ReadGgufTensorInfo(GgufCursor& cursor);

// Turns the tensor's offset in the data section into one in the file. INVALID_ARGUMENT if it is not
// aligned or the tensor ends after the file.
absl::Status PlaceGgufTensor(uint64_t data_start, uint64_t alignment, uint64_t file_size,
                             GgufTensorInfo& tensor);

// INVALID_ARGUMENT names two tensors of the file `path` that share a byte.
absl::Status CheckNoOverlap(const std::string& path, std::vector<GgufTensorInfo> tensors);

}  // namespace krait
