#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/read_bandwidth.h"

namespace krait::kernels {
namespace {

constexpr int kReadThreads = 512;
constexpr int kReadBlocks = 528;

__global__ void Read(const uint4* from, int64_t n, uint32_t* out) {
  const int64_t stride = int64_t{gridDim.x} * kReadThreads;
  uint32_t bits = 0;
  for (int64_t i = int64_t{blockIdx.x} * kReadThreads + threadIdx.x; i + 3 * stride < n;
       i += 4 * stride) {
    uint4 v[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) v[j] = from[i + j * stride];
#pragma unroll
    for (int j = 0; j < 4; ++j) bits ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (bits == 0x12345678) *out = bits;  // so that the loads are not left out
}

}  // namespace

void ReadAll(const CudaContext& context, const void* memory, int64_t num_bytes) {
  Read<<<kReadBlocks, kReadThreads, 0, context.stream>>>(
      static_cast<const uint4*>(memory), num_bytes / 16, context.workspace->Get<uint32_t>(1));
  KRAIT_CHECK_LAUNCH("ReadAll");
}

}  // namespace krait::kernels
