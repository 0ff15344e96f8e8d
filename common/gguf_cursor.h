#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/input_file.h"
#include "common/status_macros.h"

namespace krait {

// Reads forward through the head of a GGUF file in pieces; every length is checked against what is
// left of the file before memory is taken for it. INVALID_ARGUMENT says what does not fit.
class GgufCursor {
 public:
  // `file` outlives this.
  explicit GgufCursor(const InputFile& file) : file_(file) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return file_.size() - position_; }

  absl::Status Read(void* out, uint64_t size);

  // As it lies in the file: little-endian.
  template <typename T>
  absl::StatusOr<T> Number() {
    T value;
    RETURN_IF_ERROR(Read(&value, sizeof(value)));
    return value;
  }

  // A length in 64 bits, then so many bytes.
  absl::StatusOr<std::string> String(uint64_t max_bytes);

 private:
  absl::Status Truncated(uint64_t size) const;
  absl::Status Refill();

  const InputFile& file_;
  uint64_t position_ = 0;
  uint64_t buffer_start_ = 0;
  std::vector<char> buffer_;
};

}  // namespace krait
