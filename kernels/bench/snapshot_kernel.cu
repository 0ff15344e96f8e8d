// A block has a head of a sequence. It first brings all tokens' inputs to shared memory. Then a
// thread keeps four channels of every eighth n in registers, adds each token to them and writes
// them out, four at a time.

#include "kernels/bench/snapshot_kernel.h"
#include "kernels/cuda/cuda_check.h"

namespace krait::kernels {
namespace {

constexpr int kDim = 128;
constexpr int kColumns = kDim / 4;  // threads along p
constexpr int kRows = 8;            // threads along n
constexpr int kOwn = kDim / kRows;  // n of a thread
constexpr int kHeadThreads = kColumns * kRows;

constexpr int kMaxTokens = 16;

// All tokens of a head.
struct Tokens {
  float x[kMaxTokens][kDim], b[kMaxTokens][kDim], c[kMaxTokens][kDim];
  float decay[kMaxTokens], dt[kMaxTokens];
};

__device__ void BringTokens(const SnapshotParams& params, int sequence, int head, Tokens& tokens) {
  const int groups = params.num_groups, group = head / (params.num_heads / groups);
  const int64_t first = int64_t{sequence} * params.num_tokens;
  const int64_t width = int64_t{2 * groups + params.num_heads} * kDim;
  for (int i = threadIdx.x; i < params.num_tokens * kDim; i += kHeadThreads) {
    const int token = i / kDim, n = i % kDim;
    const float* row = params.xbc + (first + token) * width + n;
    tokens.x[token][n] = row[group * kDim];
    tokens.b[token][n] = row[(groups + group) * kDim];
    tokens.c[token][n] = row[(2 * groups + head) * kDim];
  }
  if (threadIdx.x < params.num_tokens) {
    const float dt = params.dt[(first + threadIdx.x) * params.num_heads + head];
    tokens.dt[threadIdx.x] = dt;
    tokens.decay[threadIdx.x] = expf(params.a[head] * dt);
  }
}

__device__ void Accumulate(float4& s, const float4& x, float input, float decay, float c,
                           float4& y) {
  s = {fmaf(input, x.x, decay * s.x), fmaf(input, x.y, decay * s.y), fmaf(input, x.z, decay * s.z),
       fmaf(input, x.w, decay * s.w)};
  y = {fmaf(s.x, c, y.x), fmaf(s.y, c, y.y), fmaf(s.z, c, y.z), fmaf(s.w, c, y.w)};
}

__global__ void __launch_bounds__(kHeadThreads, 2) KeepSnapshots(SnapshotParams params) {
  __shared__ Tokens tokens;
  __shared__ float4 parts[2][kRows][kColumns];
  const int head = blockIdx.x, sequence = blockIdx.y;
  const int column = threadIdx.x % kColumns, first = threadIdx.x / kColumns;
  const int64_t index = int64_t{sequence} * params.num_heads + head;
  const auto* from = reinterpret_cast<const float4*>(params.state + index * kDim * kDim);
  float4 state[kOwn];
#pragma unroll
  for (int i = 0; i < kOwn; ++i) state[i] = __ldcs(from + (first + i * kRows) * kColumns + column);
  BringTokens(params, sequence, head, tokens);
  __syncthreads();
  for (int t = 0; t < params.num_tokens; ++t) {
    const float4 x = reinterpret_cast<const float4*>(tokens.x[t])[column];
    const float decay = tokens.decay[t], dt = tokens.dt[t];
    const int64_t row = int64_t{sequence} * params.num_tokens + t;
    auto* to = reinterpret_cast<float4*>(params.snapshots) +
               (row * params.num_heads + head) * kDim * kColumns;
    float4 y = {};
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int n = first + i * kRows;
      Accumulate(state[i], x, dt * tokens.b[t][n], decay, tokens.c[t][n], y);
      __stcs(to + n * kColumns + column, state[i]);
    }
    parts[t % 2][first][column] = y;
    __syncthreads();
    if (first != t % kRows) continue;
    float4 sum = {};
    for (int i = 0; i < kRows; ++i) {
      const float4 part = parts[t % 2][i][column];
      sum = {sum.x + part.x, sum.y + part.y, sum.z + part.z, sum.w + part.w};
    }
    reinterpret_cast<float4*>(params.y)[(row * params.num_heads + head) * kColumns + column] = sum;
  }
}

__global__ void Fill(float* to, int64_t count) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    const uint32_t bits = static_cast<uint32_t>(i) * 2654435761u;
    to[i] = (static_cast<float>(bits >> 8) / 16777216.0f - 0.5f) * 0.5f;
  }
}

}  // namespace

void RunSnapshots(const CudaContext& context, const SnapshotParams& params) {
  const dim3 grid(params.num_heads, params.num_sequences);
  KeepSnapshots<<<grid, kHeadThreads, 0, context.stream>>>(params);
  KRAIT_CHECK_LAUNCH("snapshots");
}

void FillNoise(const CudaContext& context, float* to, int64_t count) {
  Fill<<<1024, 256, 0, context.stream>>>(to, count);
  KRAIT_CHECK_LAUNCH("noise");
}

}  // namespace krait::kernels
