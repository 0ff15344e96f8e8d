#pragma once

// Reductions in one fixed order: butterflies inside a warp (both partners add the same two numbers,
// so all lanes hold the same bits), warps in increasing order.

#include "common/fast_math.h"

namespace krait::kernels {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline float WarpSum(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

__device__ inline float WarpMax(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

// Of the eight lanes of an aligned group of eight, lane l in thread l mod 8: the tree
// ((0+4)+(2+6)) + ((1+5)+(3+7)) of kernels/cpu/vec8-inl.h, in the group's first thread.
__device__ inline float SumOfEightLanes(float value) {
#pragma unroll
  for (int offset = 4; offset > 0; offset /= 2) {
    value += __shfl_down_sync(kAllLanes, value, offset, 8);
  }
  return value;
}

// Of all threads of a block of whole warps; every thread gets it. `scratch`: a float a warp.
__device__ inline float BlockSum(float value, float* scratch) {
  const int warp = threadIdx.x / kWarpSize, num_warps = blockDim.x / kWarpSize;
  value = WarpSum(value);
  __syncthreads();  // the scratch of a reduction before
  if (threadIdx.x % kWarpSize == 0) scratch[warp] = value;
  __syncthreads();
  float sum = scratch[0];
  for (int i = 1; i < num_warps; ++i) sum += scratch[i];
  return sum;
}

__device__ inline float BlockMax(float value, float* scratch) {
  const int warp = threadIdx.x / kWarpSize, num_warps = blockDim.x / kWarpSize;
  value = WarpMax(value);
  __syncthreads();
  if (threadIdx.x % kWarpSize == 0) scratch[warp] = value;
  __syncthreads();
  float max = scratch[0];
  for (int i = 1; i < num_warps; ++i) max = fmaxf(max, scratch[i]);
  return max;
}

}  // namespace krait::kernels
