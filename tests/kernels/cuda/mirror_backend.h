#pragma once

// A CUDA backend for tests that keep everything in host memory: every op's operands are copied to
// the device, and what it writes is copied back. So the harnesses of the CPU's tests drive it too.

#include <memory>

#include "kernels/backend.h"

namespace krait::kernels {

// CHECK-fails without a device: tests labelled gpu run only where there is one.
std::unique_ptr<Backend> CreateMirrorBackend();

}  // namespace krait::kernels
