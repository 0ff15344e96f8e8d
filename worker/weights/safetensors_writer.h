#pragma once

// Writes one safetensors file (https://huggingface.co/docs/safetensors), tensor by tensor and piece
// by piece: nothing larger than a piece is held.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/core/dtype.h"

namespace krait {

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // slowest dimension first
};

class SafetensorsWriter {
 public:
  // Creates `path`, which may not exist, and writes the header for all `entries`; names are unique.
  // UNAVAILABLE or ALREADY_EXISTS names the path.
  static absl::StatusOr<SafetensorsWriter> Create(const std::string& path,
                                                  std::vector<SafetensorsEntry> entries);
  SafetensorsWriter(SafetensorsWriter&& other) noexcept;
  ~SafetensorsWriter();

  // The tensors' bytes, little-endian, in the entries' order, without gaps. UNAVAILABLE: the disk.
  absl::Status Append(std::string_view bytes);
  // Rounds to nearest even (f32 -> bf16, f16) and appends; the dtype is the current entry's.
  absl::Status AppendFloats(DType dtype, absl::Span<const float> values);
  // Flushes to the disk and closes. Every byte that the header promised has been appended (CHECK).
  absl::Status Finish();

 private:
  SafetensorsWriter(std::string path, int fd, uint64_t bytes_left);

  std::string path_;
  int fd_;
  uint64_t bytes_left_;
};

}  // namespace krait
