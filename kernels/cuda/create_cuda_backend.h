#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace krait {

// UNAVAILABLE says why there is no such device.
absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(int index);

}  // namespace krait
