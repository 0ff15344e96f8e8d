#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/core/tensor.h"

namespace krait::kernels {

// Memory of the current device, not initialized. RESOURCE_EXHAUSTED names the bytes and what is
// free.
absl::StatusOr<Tensor> AllocateDevice(int device, DType dtype, Shape shape);

// Scratch memory of one stream. An op takes what it needs and is done with it when its last kernel
// is; the next op gets the same bytes, for kernels of a stream run one after the other. Grows to
// what was asked for most, and keeps what it had: recorded ops still use it. Having none is fatal
// (it is a small part of what start-up takes).
class Workspace {
 public:
  explicit Workspace(int device) : device_(device) {}

  template <typename T>
  T* Get(int64_t count) {
    return static_cast<T*>(Reserve(count * static_cast<int64_t>(sizeof(T))));
  }

 private:
  void* Reserve(int64_t num_bytes);

  const int device_;
  std::vector<Tensor> blocks_;  // the last is the largest
};

}  // namespace krait::kernels
