#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace krait {

// 0 also without a driver.
int CountCudaDevices();

// UNAVAILABLE says why there is no such device.
absl::StatusOr<std::unique_ptr<Backend>> CreateCudaBackend(int index);

}  // namespace krait
