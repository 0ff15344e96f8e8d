#pragma once

namespace krait::kernels {

// (a cos - b sin, b cos + a sin), the second product fused, as on the CPU: the same bits.
__device__ inline float2 RotatePair(float a, float b, float cos, float sin) {
  return {fmaf(a, cos, 0.0f - b * sin), fmaf(b, cos, a * sin)};
}

}  // namespace krait::kernels
