#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/core/device.h"

namespace krait {

// How fast a device reads memory of the kind that weights lie in: the limit that decoding is
// measured against. Passes can alternate with what is measured. One thread.
class ReadMeter {
 public:
  virtual ~ReadMeter() = default;
  // Reads everything once: bytes a second; 0 if there was no memory.
  virtual double Pass() = 0;
};

// Over `num_bytes`, which should be many times the caches; `num_threads` is for a CPU. The errors
// of CreateBackend; RESOURCE_EXHAUSTED names the bytes.
absl::StatusOr<std::unique_ptr<ReadMeter>> CreateReadMeter(Device device, int num_threads,
                                                           int64_t num_bytes);

}  // namespace krait
