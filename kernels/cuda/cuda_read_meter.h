#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/read_meter.h"

namespace krait::kernels {

// On a stream of its own. See CreateReadMeter.
absl::StatusOr<std::unique_ptr<ReadMeter>> CreateCudaReadMeter(int index, int64_t num_bytes);

}  // namespace krait::kernels
