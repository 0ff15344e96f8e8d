#pragma once

#include <cstdint>

#include "kernels/cuda/cuda_ops.h"

namespace krait::kernels {

// Reads `num_bytes` of device memory once, with 16-byte loads from every multiprocessor: what no
// kernel that has to read it can be faster than. Stream-ordered.
void ReadAll(const CudaContext& context, const void* memory, int64_t num_bytes);

}  // namespace krait::kernels
